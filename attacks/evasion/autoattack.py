"""AutoAttack: a fixed ensemble, each part only on the samples that the parts before left standing.

Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
ICML 2020; in l1 with the settings of "Mind the box", ICML 2021.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Unpack, get_args

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Method,
    Norm,
    Objective,
    Parameters,
    Perturbation,
    RunOptions,
    View,
    check_samples,
    cross_entropy,
    get_norm,
    margin,
    on_rows,
    run,
    untargeted,
)
from .auto_pgd import bare_descent, targeted_sweep
from .fab import boundary_search, class_after_class
from .square import _check as check_images
from .square import random_search
from .squares import Corners, Pyramids

Version = Literal["standard", "fast"]

CLOSEST = 0.1
"""The share of the samples left that the fast version attacks in full: those that came closest to falling."""
INITIAL_SHARE = 0.8
"""The share of an image that the first squares of the random search cover."""
FIXED: dict[str, Any] = {"targets": None, "restarts": 1, "estimator": None, "stop": True}
"""The settings of a run that are the protocol's own."""


class Part(NamedTuple):
    """One attack of the ensemble: its name and method, and how often it is started."""

    name: str
    method: Callable[..., Method[None]]
    starts: int = 1


class Stage(NamedTuple):
    """Parts that attack the same samples, and the share of those then left that the next stage goes on with."""

    parts: tuple[Part, ...]
    kept: float = 1.0


def standard(norm: str, classes: int) -> tuple[Stage, ...]:
    """The published ensemble for a model with this many classes, in its order."""
    starts, others = (5, 5) if norm == "l1" else (1, 9)
    first = Part("Auto-PGD CE", partial(bare_descent(norm, 100), objective=untargeted(cross_entropy)), starts)
    return (Stage((first, targeted(norm, classes, others, steps=100), boundary(norm), *squares(norm, 5000))),)


def targeted(norm: str, classes: int, others: int, steps: int) -> Part:
    """The targeted sweep; with fewer than four classes its loss cannot be computed, and the margin stands in."""
    inner = bare_descent(norm, steps)
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
        yield Part("Square", partial(search, steps=steps, initial_share=INITIAL_SHARE, span=10_000))


def fast(norm: str, classes: int) -> tuple[Stage, ...]:
    """A quick look at all samples, and the long attacks on those that came closest to falling."""
    first = Part("quick Auto-PGD CE", partial(bare_descent(norm, 50), objective=untargeted(cross_entropy)))
    second = targeted(norm, classes, 9, steps=30)
    long = (targeted(norm, classes, 9, steps=100), boundary(norm), *squares(norm, 3000))
    return Stage((first, second._replace(name=f"quick {second.name}")), kept=CLOSEST), Stage(long)


@dataclass
class Tally:
    """How many samples stood before each part, by its name, and how many that stood were left out of later stages."""

    ran: Counter[str] = field(default_factory=Counter)
    spared: int = 0


class Watch:
    """Notes of one batch at one radius what the asks of the parts show, which are about samples that still stand.

    Args:
        n: samples in the batch.
        norm: of the ball. A point outside it, where some parts search, does not say how close a sample is to falling.
        epsilon: its radius.
        tally: added to.
        device: of the batch.
    """

    def __init__(self, n: int, norm: Norm, epsilon: float, tally: Tally, device: torch.device) -> None:
        self.norm, self.epsilon, self.tally = norm, epsilon, tally
        self.begun: set[str] = set()
        self.closest = torch.full((n,), -torch.inf, device=device)

    def over(self, part: Part, method: Method[None], rows: Tensor, *, measure: bool) -> Method[None]:
        """Let a part's method run that was started on the samples at ``rows``; count them, and measure if wanted."""
        n = len(self.closest)
        inner = method if len(rows) == n else on_rows(method, rows, n)
        try:
            ask = next(inner)
            while True:
                noting = partial(self._note, part.name, ask.objective, measure)
                ask = inner.send((yield replace(ask, objective=noting)))
        except StopIteration:
            return

    def _note(self, name: str, objective: Objective | None, measure: bool, view: View) -> Tensor:
        if name not in self.begun:
            self.begun.add(name)
            self.tally.ran[name] += len(view.batch)
        if measure:
            self._measure(view)
        return view.logits.new_zeros(len(view.batch)) if objective is None else objective(view)

    @torch.no_grad()
    def _measure(self, view: View) -> None:
        gaps, before = margin(view.logits, view.batch.labels), self.closest[view.batch.rows]
        rounding = 8 * torch.finfo(view.inputs.dtype).eps * view.inputs.abs().amax()
        inside = self.norm.size(view.inputs - view.batch.inputs) <= self.epsilon * (1 + 1e-6) + rounding
        self.closest[view.batch.rows] = torch.where(inside & (gaps > before), gaps, before)

    def nearest(self, clean: Parameters, share: float) -> Method[Tensor]:
        """The share of the samples still standing that came closest to falling, as rows; at least one if any stands."""
        seen: list[Tensor] = []

        def look(view: View) -> Tensor:
            seen.append(view.batch.rows)
            return view.logits.new_zeros(len(view.batch))

        yield Ask(clean, look)
        (rows,) = seen
        kept = math.ceil(share * len(rows))
        self.tally.spared += len(rows) - kept
        return rows[self.closest[rows].topk(kept).indices]


def cascade(
    x: Tensor,
    perturbation: Perturbation,
    *,
    generator: torch.Generator,
    epsilon: float,
    norm: Norm,
    stages: Callable[[int], tuple[Stage, ...]],
    tallies: dict[float, Tally],
) -> Method[None]:
    """The method behind :func:`autoattack`: one part after the other, each on what is left."""
    clean = perturbation.start(x)
    answer = yield Ask(clean)
    watch = Watch(len(x), norm, epsilon, tallies.setdefault(epsilon, Tally()), x.device)
    rows = torch.arange(len(x), device=x.device)
    for stage in stages(answer.logits.shape[1]):
        measure = stage.kept < 1
        for part in stage.parts:
            for _ in range(part.starts):
                method = part.method(x[rows], perturbation, generator=generator, epsilon=epsilon)
                yield from watch.over(part, method, rows, measure=measure)
        if measure:
            rows = yield from watch.nearest(clean, stage.kept)


def sentences(result: AttackResult, tallies: dict[float, Tally]) -> Iterator[str]:
    """For each radius how many samples each part was run on, and what stood in the end."""
    for epsilon in result.radii:
        left = result.at(epsilon).robust_rate
        ran = tallies.get(epsilon, Tally()).ran
        listed = ", ".join(f"{name} on {count}" for name, count in ran.items()) or "nothing was left to attack"
        yield f"At epsilon {epsilon:g}: {listed}; {left.successes} of {left.n} samples stand in the end."


def masked(result: AttackResult, tallies: dict[float, Tally]) -> Iterator[str]:
    """AutoAttack's own flag: the random search, the last part, felled more than 0.2 % of the samples."""
    for epsilon, tally in tallies.items():
        left, ran = result.at(epsilon).robust_rate, tally.ran["Square"]
        felled = ran + tally.spared - left.successes
        if ran and felled > 0.002 * left.n:
            yield (
                f"At epsilon {epsilon:g} the random search, which sees no gradient, felled {felled} of {ran} samples "
                "that the gradient attacks had left: if these are many, gradients are masked, and the model needs an "
                "attack that goes around that."
            )


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
        version: "standard", or "fast": short Auto-PGD on all samples, and the long attacks only on the tenth of
            those left that came closest to falling. The share is taken of each batch and rounded up: the smaller
            ``batch_size``, the more samples are attacked in full, and with 1 all that are left.
        **options: the settings of :func:`attacks.run`, without those that the protocol fixes: targets, restarts,
            estimator and stop.

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
    for name, usual in FIXED.items():
        given = options.get(name)
        if given is not None and (usual is None or given != usual):
            raise InputError(f"{name} came, but the protocol fixes it: leave it out, or run its parts by themselves.")
    check_samples(x, labels, None, options.get("bounds", (0.0, 1.0)))
    stages = partial({"standard": standard, "fast": fast}[version], norm)
    bare_descent(norm, 1)  # refuses norms that have none
    if norm != "l1":
        check_images(x, norm, INITIAL_SHARE)
    tallies: dict[float, Tally] = {}
    method = partial(cascade, norm=get_norm(norm), stages=stages, tallies=tallies)
    options.setdefault("diagnose", True)
    result = run(method, model, x, labels, norm=norm, epsilon=epsilon, **options)
    return replace(result, notes=(*result.notes, *sentences(result, tallies), *masked(result, tallies)))
