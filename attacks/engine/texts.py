"""Texts as rows of numbers, so that an attack can exchange their words one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from .asks import Parameters
from .perturbations import as_tensor
from .results import AttackResult


class Piece(NamedTuple):
    """A part of a text: a word, or what stands between two words.

    Attributes:
        text: the characters.
        free: whether an attack may exchange it.
        token: its number in a model's vocabulary; -1 where it has none.
    """

    text: str
    free: bool = False
    token: int = -1


class Pieces:
    """The pieces of all texts of a run and what may stand in for them, numbered. Number 0 is the empty piece.

    A text is a row of numbers whose pieces, put together, are the text; shorter texts end in zeros.

    Example:
        >>> pieces = Pieces()
        >>> rows = pieces.rows([[Piece("good", free=True), Piece(" film")], [Piece("bad")]])
        >>> rows
        tensor([[1., 2.],
                [3., 0.]])
        >>> pieces.texts(rows)
        ['good film', 'bad']
    """

    def __init__(self) -> None:
        self._numbers = {Piece(""): 0}
        self._pieces = [Piece("")]

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, number: int) -> Piece:
        return self._pieces[number]

    def number(self, piece: Piece) -> int:
        """The number of a piece; a new one if it has none yet."""
        number = self._numbers.setdefault(piece, len(self._pieces))
        if number == len(self._pieces):
            self._pieces.append(piece)
        return number

    def rows(self, texts: Sequence[Sequence[Piece]]) -> Tensor:
        """The numbers of texts that were cut into pieces, float32, shape ``[n, pieces]``."""
        numbers = [torch.tensor([self.number(piece) for piece in text], dtype=torch.float32) for text in texts]
        return nn.utils.rnn.pad_sequence(numbers, batch_first=True)

    def texts(self, rows: Tensor) -> list[str]:
        """The texts that rows of numbers stand for."""
        return ["".join(self._pieces[number].text for number in row) for row in rows.long().tolist()]

    @property
    def free(self) -> Tensor:
        """Which pieces an attack may exchange, bool, shape ``[pieces]``."""
        return torch.tensor([piece.free for piece in self._pieces])

    @property
    def tokens(self) -> Tensor:
        """The pieces' numbers in the model's vocabulary, int64, shape ``[pieces]``; -1 where there is none."""
        return torch.tensor([piece.token for piece in self._pieces])


class Spelled(nn.Module):
    """A model of texts, as a model of rows of numbers: whatever is asked, it is asked about real texts.

    Only tensors of three dimensions, which stand between texts, go to the model as they are.

    Args:
        model: maps a list of ``n`` texts to logits, ``[n, classes]``.
        pieces: what the numbers mean.

    Example:
        >>> pieces = Pieces()
        >>> rows = pieces.rows([[Piece("good")], [Piece("bad")]])
        >>> Spelled(lambda texts: [[0.0, len(text)] for text in texts], pieces)(rows)
        tensor([[0., 4.],
                [0., 3.]])
    """

    def __init__(self, model: Callable[[Any], Any], pieces: Pieces) -> None:
        super().__init__()
        self.model, self.pieces = model, pieces

    def forward(self, rows: Tensor) -> Tensor:
        """Logits, shape ``[n, classes]``, where the rows are."""
        logits = self.model(rows if rows.dim() == 3 else self.pieces.texts(rows))
        if isinstance(logits, Tensor):
            return logits.to(rows.device)
        return torch.as_tensor(logits, dtype=torch.float32, device=rows.device)


@dataclass(frozen=True, eq=False)
class Substitution:
    """Other pieces in the place of those that are free. The parameters are the changed rows of numbers themselves.

    Attributes:
        free: which pieces may be exchanged, bool, shape ``[pieces]``.
        relative: whether distances are shares of a text's free pieces instead of counts.

    Example:
        >>> x, free = torch.tensor([[1.0, 2.0, 1.0]]), torch.tensor([False, True, False])
        >>> Substitution(free).clip(x, torch.tensor([[2.0, 2.0, 2.0]]))
        tensor([[2., 2., 2.]])
    """

    free: Tensor
    relative: bool = False
    shared: bool = False

    def unit(self, x: Tensor) -> Tensor:
        """How many changes count as a distance of 1, shape ``[n]``: one, or as many as there are free pieces."""
        return self.places(x).sum(1).clamp_min(1).to(x.dtype) if self.relative else x.new_ones(len(x))

    def start(self, x: Tensor) -> Tensor:
        """The texts as they are."""
        return x.clone()

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The changed texts; or points between texts, where the parameters have three dimensions."""
        return as_tensor(parameters)

    def clip(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The same with every piece put back that may not be exchanged."""
        return torch.where(self.places(x), as_tensor(parameters), x)

    def places(self, x: Tensor) -> Tensor:
        """Where the free pieces are, bool, shape ``[n, pieces]``."""
        return self.free.to(x.device)[x.long()]

    def allowed(self, x: Tensor, epsilon: float) -> Tensor:
        """How many pieces of each text may be exchanged within a radius, shape ``[n]``."""
        return (epsilon * self.unit(x) * (1 + 1e-6)).floor()


@dataclass(frozen=True)
class TextResult(AttackResult):
    """What an attack on texts found: ``adversarial`` holds numbers of pieces, ``texts`` says what they stand for.

    Attributes:
        texts: the adversarial texts; where there was no success, the last one tried.
        substitutions: for each text what was exchanged, in order, as pairs of before and after.
    """

    texts: tuple[str, ...] = ()
    substitutions: tuple[tuple[tuple[str, str], ...], ...] = ()

    @property
    def changes(self) -> Tensor:
        """How many words were exchanged in each text, int64, shape ``[n]``."""
        return torch.tensor([len(pairs) for pairs in self.substitutions])

    @staticmethod
    def of(result: AttackResult, pieces: Pieces, x: Tensor, *, relative: bool) -> "TextResult":
        """The result of a run on the rows ``x``, in words; ``relative`` says whether its distances are shares."""
        clean, changed = x.long().tolist(), result.adversarial.long().tolist()
        exchanged = (
            tuple((pieces[a].text, pieces[b].text) for a, b in zip(before, after, strict=True) if a != b)
            for before, after in zip(clean, changed, strict=True)
        )
        known = {field.name: getattr(result, field.name) for field in fields(AttackResult)}
        known["norm"] = "relative l0" if relative else "l0"
        return TextResult(**known, texts=tuple(pieces.texts(result.adversarial)), substitutions=tuple(exchanged))


def check_texts(texts: Sequence[str], settings: Sequence[str] = ()) -> None:
    """Refuse what is no list of texts, and settings of a run that mean nothing for texts.

    Raises:
        InputError: naming what came.

    Example:
        >>> check_texts("one text")
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: The texts are a str but must be a list of strings: put a single text in a list.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise InputError(
            f"The texts are a {type(texts).__name__} but must be a list of strings: put a single text in a list."
        )
    odd = [text for text in texts if not isinstance(text, str) or not text.strip()]
    if odd or not len(texts):
        raise InputError(
            f"The texts contain {odd[0]!r} but must be strings with a word in them: leave it out."
            if odd
            else "There are no texts: give at least one."
        )
    unfit = [name for name in ("bounds", "levels", "diagnose") if name in settings]
    if unfit:
        raise InputError(f"{unfit[0]}= means nothing for texts: leave it out.")


def radius(max_changes: int | None, max_share: float | None) -> tuple[float, bool]:
    """The radius of an attack on texts, and whether it is relative.

    Raises:
        InputError: for both settings at once, or one out of range.

    Example:
        >>> radius(3, None), radius(None, 0.2)
        ((3.0, False), (0.2, True))
    """
    if (max_changes is None) == (max_share is None):
        raise InputError("Give one budget: max_changes= words in each text, or max_share= of its words, from 0 to 1.")
    if max_changes is not None:
        if not isinstance(max_changes, int) or max_changes < 1:
            raise InputError(f"max_changes={max_changes!r} cannot be used: it must be a whole number of at least 1.")
        return float(max_changes), False
    if not isinstance(max_share, int | float) or not 0 < max_share <= 1:
        raise InputError(f"max_share={max_share!r} cannot be used: it must be a number above 0 and at most 1.")
    return float(max_share), True
