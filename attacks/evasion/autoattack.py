"""AutoAttack: a fixed ensemble, each part only on the samples that the parts before left standing.

Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
ICML 2020; in l1 with the settings of "Mind the box", ICML 2021.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple, Unpack, get_args

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Method,
    Perturbation,
    RunOptions,
    cross_entropy,
    get_norm,
    margin,
    on_rows,
    run,
    untargeted,
)
from .auto_pgd import descent, targeted_sweep
from .fab import boundary_search, class_after_class
from .square import random_search
from .squares import Corners, Pyramids

Version = Literal["standard", "fast"]

CLOSEST = 0.15
"""The share of the samples left that the fast version attacks in full: those that came closest to falling."""


class Part(NamedTuple):
    """One attack of the ensemble: its name and method, how often it is started, on what share of the samples."""

    name: str
    method: Callable[..., Method[None]]
    starts: int = 1
    share: float = 1.0


def standard(norm: str, classes: int) -> Iterator[Part]:
    """The published ensemble for a model with this many classes, in its order."""
    starts, others = (5, 5) if norm == "l1" else (1, 9)
    yield Part("Auto-PGD CE", partial(descent(norm, 100), objective=untargeted(cross_entropy)), starts)
    yield targeted(norm, classes, others, steps=100)
    yield boundary(norm)
    yield from squares(norm, 5000)


def targeted(norm: str, classes: int, others: int, steps: int) -> Part:
    """The targeted sweep; with fewer than four classes its loss cannot be computed, and the margin stands in."""
    inner = descent(norm, steps)
    if classes < 4:
        return Part("Auto-PGD margin", partial(inner, objective=untargeted(margin)))
    return Part("Auto-PGD T", partial(targeted_sweep, inner=inner, classes=others))


def boundary(norm: str) -> Part:
    """The targeted boundary attack, with its usual settings."""
    search = boundary_search(norm, goal=untargeted(margin), steps=100, starts=1, bias=0.1, overshoot=0.05, shrink=0.9)
    return Part("FAB-T", partial(class_after_class, classes=9, search=search))


def squares(norm: str, steps: int) -> Iterator[Part]:
    """The random search; there is none in l1."""
    if norm != "l1":
        moves = Corners if norm == "linf" else Pyramids
        search = partial(random_search, squares=moves, objective=untargeted(margin))
        yield Part("Square", partial(search, steps=steps, initial_share=0.8, span=10_000))


def fast(norm: str, classes: int) -> Iterator[Part]:
    """A quick look at all samples, and the long attacks on those that came closest to falling."""
    yield Part("quick Auto-PGD CE", partial(descent(norm, 50), objective=untargeted(cross_entropy)))
    yield targeted(norm, classes, 9, steps=30)._replace(name="quick Auto-PGD T")
    for part in (targeted(norm, classes, 9, steps=100), boundary(norm), *squares(norm, 3000)):
        yield part._replace(share=CLOSEST)


class Standing:
    """Which samples of a batch still stand at one radius, and how close each came to falling.

    Args:
        labels: of the samples that are classified right; the others have fallen anyway.
        counts: how many samples stood before each part, by its name; added to.
    """

    def __init__(self, labels: Tensor, counts: Counter[str]) -> None:
        self.labels, self.counts = labels, counts
        self.closest = torch.full(labels.shape, -torch.inf, device=labels.device)

    def watch(self, name: str, method: Method[None], rows: Tensor) -> Method[None]:
        """Let a method run that was started on the samples at ``rows``, and note what its answers say of them."""
        inner, first = on_rows(method, rows, len(self.labels)), True
        try:
            answer = yield next(inner)
            while True:
                heard = answer.logits.any(1)
                self.counts[name] += int(heard.sum()) if first else 0
                first, gaps = False, margin(answer.logits, self.labels)
                self.closest = torch.where(heard & (gaps > self.closest), gaps, self.closest)
                answer = yield inner.send(answer)
        except StopIteration:
            return

    def nearest(self, share: float) -> Tensor:
        """The share of those standing with the least margin left, as rows; all rows where it is 1."""
        if share == 1:
            return torch.arange(len(self.labels), device=self.labels.device)
        left = torch.where(self.closest <= 0, self.closest, -torch.inf)
        return left.topk(math.ceil(share * int(left.isfinite().sum()))).indices


def cascade(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    epsilon: float,
    parts: Callable[[int], Iterator[Part]],
    counts: dict[float, Counter[str]],
) -> Method[None]:
    """The method behind :func:`autoattack`: one part after the other, each on what is left."""
    answer = yield Ask(perturbation.start(x))
    standing = Standing(answer.logits.argmax(1), counts.setdefault(epsilon, Counter()))
    for part in parts(answer.logits.shape[1]):
        rows = standing.nearest(part.share)
        for _ in range(part.starts if len(rows) else 0):
            method = part.method(x[rows], perturbation, generator=generator, epsilon=epsilon)
            yield from standing.watch(part.name, method, rows)


def sentences(result: AttackResult, counts: dict[float, Counter[str]]) -> Iterator[str]:
    """For each radius how many samples each part was run on, and what stood in the end."""
    for epsilon, parts in counts.items():
        left = result.at(epsilon).robust_rate
        listed = ", ".join(f"{name} on {count}" for name, count in parts.items())
        yield f"At epsilon {epsilon:g}: {listed}; {left.successes} of {left.n} samples stand in the end."


def autoattack(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float | Sequence[float],
    norm: str = "linf",
    version: Version = "standard",
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each sample with a fixed ensemble, whose robust accuracy can be compared between papers.

    ``standard`` is the published protocol: Auto-PGD on cross-entropy, targeted Auto-PGD and targeted FAB towards nine
    classes, and 5,000 queries of the Square attack, each on what is left. Signs that the model makes attacks look weak
    are looked for first; they, and what each part left standing, are in the result's ``notes``.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``. With fewer than four classes the margin takes the place of
            the targeted loss, which cannot be computed then.
        x: clean images, float32, shape ``[n, channels, height, width]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the radius of the ball, in the units of ``x``; several radii are tried in ascending order.
        norm: "linf", "l2" or "l1", where there is no random search.
        version: "standard", or "fast": short Auto-PGD on all samples, and the long attacks only on the sixth or so of
            those left that came closest to falling.
        **options: the settings of :func:`attacks.run`, without those that the protocol fixes: targets, restarts and
            estimator.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 5))
        >>> x = torch.rand(4, 3, 6, 6)
        >>> autoattack(model, x, model(x).argmax(1), epsilon=0.3, version="fast").success
        tensor([True, True, True, True])
    """
    if version not in get_args(Version):
        raise InputError(f"version={version!r} is not known: use one of {', '.join(map(repr, get_args(Version)))}.")
    for fixed in ("targets", "restarts", "estimator"):
        if options.get(fixed) not in (None, 1):
            raise InputError(f"{fixed} came, but the protocol fixes it: leave it out, or run its parts by themselves.")
    if norm != "l1" and x.dim() != 4:
        raise InputError(f"The random search needs images [n, channels, height, width], but x has {tuple(x.shape)}.")
    get_norm(norm)
    counts: dict[float, Counter[str]] = {}
    method = partial(cascade, parts=partial({"standard": standard, "fast": fast}[version], norm), counts=counts)
    options.setdefault("diagnose", True)
    result = run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)
    return replace(result, notes=(*result.notes, *sentences(result, counts), *_masked(result, counts)))


def _masked(result: AttackResult, counts: dict[float, Counter[str]]) -> Iterator[str]:
    """AutoAttack's own flag: the random search felled more than 0.2 % of the samples."""
    for epsilon, parts in counts.items():
        left = result.at(epsilon).robust_rate
        felled = parts["Square"] - left.successes
        if list(parts) == ["Auto-PGD CE", "Auto-PGD T", "FAB-T", "Square"] and felled > 0.002 * left.n:
            yield (
                f"The random search, which sees no gradient, felled {felled} samples that the gradient attacks had "
                "left: if these are many, gradients are masked, and the model needs an attack that goes around that."
            )
