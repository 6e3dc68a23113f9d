"""Measure how robust a model is: level 1, natural corruptions, and level 2, attacks inside a norm ball."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from time import perf_counter
from types import MappingProxyType

import torch
from torch import Tensor, nn
from tqdm import tqdm

from attacks.corruptions import CORRUPTIONS, Benchmark, corrupt
from attacks.engine import Rate, check_counts, check_radii, check_samples, device_of, frozen, get_norm, logits_of
from attacks.errors import InputError
from attacks.evasion import pgd

from .card import Card
from .cell import Cell

EPSILONS: Mapping[str, Sequence[float]] = MappingProxyType(
    {"linf": (1 / 255, 2 / 255, 4 / 255, 8 / 255), "l2": (0.25, 0.5, 1.0)}
)
"""Radii that are usual for images in [0, 1]."""


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = (1, 3, 5),
    benchmark: Benchmark = "imagenet-c",
    epsilons: Mapping[str, Sequence[float]] = EPSILONS,
    steps: int = 20,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = False,
) -> Card:
    """Make the robustness card of a model on labelled samples.

    Level 2 is PGD (Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018). Samples
    that the model gets wrong count as lost and are not attacked. Within a norm the epsilons are taken in ascending
    order: an adversarial input of a small ball lies inside every larger one, so a sample that is lost stays lost and is
    not attacked again. That saves work and makes the accuracy fall with epsilon by construction. PGD only ever shows
    that a sample can be lost: what it leaves is an upper bound of the robust accuracy.

    Args:
        model: maps inputs in [0, 1] to logits, shape ``[n, classes]``; held in evaluation mode meanwhile. Where its
            logits have no gradient in the input, the cells of level 2 say that they were not run.
        images: clean samples, float32, shape ``[n, channels, height, width]``, entries in [0, 1]. Samples of another
            shape are possible: then the cells of level 1 say that they were not run.
        labels: their classes, int64, shape ``[n]``.
        corruptions: names from :data:`attacks.corruptions.CORRUPTIONS`; may be empty.
        severities: of each corruption, 1 to 5.
        benchmark: whose severities; ``"cifar-c"`` for small images, see :func:`attacks.corruptions.corrupt`.
        epsilons: for each norm ("linf", "l2", ...) the radii in its units; may be empty.
        steps: of PGD.
        batch_size: samples in work at once.
        seed: of the corruptions' noise and of PGD's random starts; at least 0.
        progress: show a bar over the cells.

    Returns:
        The card: the clean samples, then every corruption at every severity, then every norm at every epsilon.

    Raises:
        InputError: when samples, labels, names or numbers are not of this kind; before anything is measured.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> _ = nn.init.zeros_(model[1].weight)
        >>> images = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> labels = model(images).argmax(1)
        >>> card = evaluate(model, images, labels, corruptions=["contrast"], severities=[1], epsilons={"linf": [0.1]})
        >>> for cell in card.cells:
        ...     print(cell.level, cell.name, cell.rate)
        0 clean 1.000 [0.610, 1.000] n=6
        1 contrast 1.000 [0.610, 1.000] n=6
        2 pgd 1.000 [0.610, 1.000] n=6
    """
    check_samples(images, labels, None, (0.0, 1.0))
    _check(corruptions, severities, benchmark, epsilons, steps, batch_size, seed)
    work = _Work(model, images, labels, batch_size, seed)
    with frozen(model):
        clean, correct = work.clean()
        pairs = list(product(corruptions, severities))
        attacks = {norm: sorted(set(radii)) for norm, radii in epsilons.items()}
        cells = chain(
            (work.corrupted(name, severity, benchmark) for name, severity in pairs),
            *(work.attacked(correct, norm, radii, steps) for norm, radii in attacks.items()),
        )
        count = len(pairs) + sum(map(len, attacks.values()))
        measured = tuple(tqdm(cells, total=count, disable=not progress, unit="cell"))
    settings = {"samples": len(images), "batch_size": batch_size, "seed": seed, "torch": torch.__version__}
    return Card(str(getattr(model, "name", type(model).__name__)), (clean, *measured), settings)


def _check(
    corruptions: Sequence[str],
    severities: Sequence[int],
    benchmark: Benchmark,
    epsilons: Mapping[str, Sequence[float]],
    steps: int,
    batch_size: int,
    seed: int,
) -> None:
    """Refuse what a late cell could not use before the first one is measured."""
    check_counts(batch_size=batch_size, steps=steps)
    pixel = torch.zeros(1, 1, 1, 1)
    for name, severity in product(corruptions, severities):
        corrupt(pixel, name, severity, seed=seed, benchmark=benchmark)
    for norm, radii in epsilons.items():
        get_norm(norm)
        if radii:
            check_radii(radii)


@dataclass(frozen=True)
class _Work:
    """A model and samples to measure it on, with what all measurements share."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    batch_size: int
    seed: int

    def clean(self) -> tuple[Cell, Tensor]:
        """The cell of the clean samples, and which of them are right, bool, shape ``[n]``."""
        started = perf_counter()
        correct = self._right(lambda part, first: part)
        return Cell(0, "first", "clean", {}, Rate.of(correct), len(correct), 0, perf_counter() - started), correct

    def corrupted(self, name: str, severity: int, benchmark: Benchmark) -> Cell:
        """The cell of one corruption."""
        settings = {"severity": severity, "benchmark": benchmark, "seed": self.seed}
        if self.images.dim() != 4 or self.images.shape[1] not in (1, 3):
            shape = tuple(self.images.shape)
            note = f"Not run: it needs images [n, 1 or 3, height, width], and the samples have shape {shape}."
            return Cell(1, "first", name, settings, note=note)
        started = perf_counter()
        change = partial(corrupt, name=name, severity=severity, seed=self.seed, benchmark=benchmark)
        right = self._right(lambda part, first: change(part, first=first))
        return Cell(1, "first", name, settings, Rate.of(right), len(right), 0, perf_counter() - started)

    @torch.no_grad()
    def _right(self, change: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Which samples are right after a change that is told the row of a batch's first sample."""
        device = device_of(self.model, self.images)
        starts = range(0, len(self.images), self.batch_size)
        parts = (change(self.images[start : start + self.batch_size], start) for start in starts)
        classes = 1 + int(self.labels.max())
        logits = torch.cat([logits_of(self.model, part.to(device), classes) for part in parts])
        if bool(logits.isnan().any()):
            raise InputError(
                f"The model answered {int(logits.isnan().any(1).sum())} of {len(logits)} samples with NaN, so no card "
                "can be made of it: look for an overflow, in half precision above all, or a division by zero in it."
            )
        return logits.argmax(1).to(self.labels.device) == self.labels

    def attacked(self, correct: Tensor, norm: str, epsilons: Sequence[float], steps: int) -> Iterator[Cell]:
        """The cells of one norm, epsilons ascending; ``correct`` says which clean samples are right."""
        standing = correct.clone()
        differentiable = self._differentiable()
        for epsilon in epsilons:
            settings = {"norm": norm, "epsilon": epsilon, "steps": steps, "seed": self.seed}
            cell = partial(Cell, 2, "first", "pgd", settings)
            rows = standing.nonzero().squeeze(1)
            if not differentiable:
                yield cell(note="Not run: the model's logits have no gradient in its input, which PGD follows.")
            elif epsilon == 0 or not len(rows):
                why = "epsilon 0 changes nothing" if epsilon == 0 else "no sample was left to attack"
                yield cell(Rate.of(standing), note=f"Known without a pass: {why}.")
            else:
                started = perf_counter()
                found = pgd(
                    self.model, self.images[rows], self.labels[rows], epsilon=epsilon, norm=norm, steps=steps,
                    batch_size=self.batch_size, seed=self.seed,
                )  # fmt: skip
                standing[rows[found.success]] = False
                passes = int(found.forward_passes.sum()), int(found.backward_passes.sum())
                note = f"Attacked {len(rows)} of {len(correct)} samples; the others were lost before."
                yield cell(Rate.of(standing), *passes, perf_counter() - started, note)

    def _differentiable(self) -> bool:
        device = device_of(self.model, self.images)
        with torch.enable_grad():
            return self.model(self.images[:1].to(device, copy=True).requires_grad_()).requires_grad
