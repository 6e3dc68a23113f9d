"""Black-box verification: does a suspect know the labels that only the key's owner could foresee?

Hard labels are enough. The labels are derived here, from the key and the mark: no caller can hand over labels of their
own, so every p-value is the exact one of :mod:`watermark.statistics`.
"""

from collections.abc import Sequence

from torch import Tensor

from attacks.engine import Rate, check_samples
from attacks.errors import BudgetError, InputError, RepromarkError

from .keys import OwnerKey
from .mark import Mark
from .oracle import REFUSED, Oracle, Suspect
from .statistics import matches_needed
from .verdict import Count, Verdict


def verify(
    suspect: Suspect,
    mark: Mark,
    key: OwnerKey,
    *,
    alpha: float = 1e-6,
    budget: int | None = None,
    wrong_keys: int | Sequence[OwnerKey] = 9,
    unmarked: Suspect | None = None,
    clean: tuple[Tensor, Tensor] | None = None,
    batch_size: int = 64,
) -> Verdict:
    """Ask a suspect about the key's triggers and test whether it gives their labels more often than by chance.

    The suspect gets images, float32 in [0, 1], shape ``[b, c, h, w]``, every value a multiple of 1/255. A function
    answers with ``b`` class numbers; where it gives None or anything that is no class, or raises, that trigger counts
    as a miss. Each image sent is one query, answered or not. Where all answers to the key's triggers are missing,
    nothing was measured, and there is no verdict.

    Args:
        suspect: what is asked; a torch model is held frozen in evaluation mode meanwhile.
        mark: the recipe, fixed before the suspect was seen.
        key: the owner's key.
        alpha: the chance of a false claim that is accepted, in (0, 1).
        budget: the most queries the suspect may be asked, controls included; None: as many as are needed.
        wrong_keys: how many wrong keys to try as a control, or the keys; each costs ``mark.n`` queries.
        unmarked: a model that surely lacks the mark, as a control: the marked model's own original, say.
        clean: ordinary images, float32 in [0, 1], and their labels (int64), to see that the suspect does classify;
            one query each.
        batch_size: images sent at once.

    Returns:
        The verdict; its p-value is exact, see :mod:`watermark.statistics`.

    Raises:
        InputError: ``mark.n`` triggers cannot reach ``alpha``, or an argument does not fit.
        BudgetError: the budget does not cover the queries; none was sent.
        RepromarkError: the suspect gave no valid answer at all.

    Example:
        >>> mark = Mark(family="shapes", n=20, classes=10, shape=(1, 8, 8), nonce="example")
        >>> key = OwnerKey(bytes(32))  # for the example only: use OwnerKey.generate()
        >>> triggers = mark.triggers(key)
        >>> known = {image.numpy().tobytes(): int(label) for image, label in zip(triggers.images, triggers.labels)}
        >>> thief = lambda images: [known.get(image.numpy().tobytes(), 0) for image in images]
        >>> verdict = verify(thief, mark, key)
        >>> verdict.verified, verdict.matches, round(verdict.bits, 1), verdict.queries
        (True, 20, 66.4, 200)
    """
    matches_needed(mark.n, mark.classes, alpha)  # refuses an alpha that the mark cannot reach before anything is asked
    if clean is not None:
        check_samples(clean[0], clean[1], None, (0.0, 1.0))
    if isinstance(wrong_keys, int) and wrong_keys < 0:
        raise InputError(f"Got wrong_keys={wrong_keys}: say how many to try, 0 for none, or give the keys.")
    decoys = [key.decoy(index) for index in range(wrong_keys)] if isinstance(wrong_keys, int) else list(wrong_keys)
    if key in decoys:
        raise InputError("The owner's key is among the wrong keys: leave it out, or say how many wrong keys to draw.")
    oracle = Oracle(suspect, batch_size)
    _check_budget(mark.n * (1 + len(decoys)) + (0 if clean is None else len(clean[0])), budget, oracle.budget_left)
    answers, count = _ask(oracle, mark, key)
    if bool((answers == REFUSED).all()):
        raise RepromarkError(
            f"The suspect gave no valid answer to any of {mark.n} triggers, so nothing was measured (first reason: "
            f"{oracle.error}): see that it answers each image with a class number, and ask again."
        )
    wrong = tuple(_ask(oracle, mark, decoy)[1] for decoy in decoys)
    return Verdict(
        **vars(count),
        alpha=alpha,
        distinct_answers=len(set(answers.tolist()) - {REFUSED}),
        refused=int((answers == REFUSED).sum()),
        error=oracle.error,
        wrong_keys=wrong,
        unmarked=None if unmarked is None else _ask(Oracle(unmarked, batch_size), mark, key)[1],
        clean=None if clean is None else Rate.of(oracle.answers(clean[0]) == clean[1].cpu()),
        queries=oracle.queries,
        commitment=key.commitment,
        mark=mark.digest,
    )


def _ask(oracle: Oracle, mark: Mark, key: OwnerKey) -> tuple[Tensor, Count]:
    triggers = mark.triggers(key)
    answers = oracle.answers(triggers.images)
    return answers, Count(matches=int((answers == triggers.labels).sum()), n=mark.n, classes=mark.classes)


def _check_budget(planned: int, *budgets: int | None) -> None:
    left = min((budget for budget in budgets if budget is not None), default=planned)
    if planned > left:
        raise BudgetError(
            f"The verification needs {planned} queries, controls included, but the budget leaves {left}: nothing was "
            "sent. Raise the budget, or use fewer wrong keys or clean images."
        )
