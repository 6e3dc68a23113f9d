"""The driver: puts the asks of a method to a model, and owns everything that methods share.

It evaluates each ask on the rows that are still open and scatters the answers back, so that a method keeps plain
full-batch tensors; counts the passes of every sample; keeps a hard budget; keeps the best point; and judges success at
the end on what a user could really send (see :class:`~attacks.engine.rounds.Rounds`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NoReturn, TypedDict, TypeVar, overload

import torch
from torch import Tensor, nn
from tqdm import tqdm

from attacks.errors import InputError

from .asks import Answer, Ask, Batch, Method
from .checks import check_bounds, check_chance, check_counts, check_radii, check_samples
from .constraints import get_norm
from .devices import device_of
from .diagnostics import diagnosis, sentences
from .estimation import by_queries
from .estimators import Estimator
from .evaluation import evaluate
from .frozen import frozen
from .perturbations import Additive, Perturbation
from .results import AttackResult
from .rounds import Rounds, Rules

T = TypeVar("T")


Attack = Callable[..., Method[object]]
"""What :func:`run` drives: starts a method, its settings bound: ``attack(x, perturbation, *, generator)``.

``x`` are samples of shape ``[n, ...]``; all chance comes from ``generator``. A fixed-budget method, one that is run
with an epsilon, is told the radius as ``epsilon=``.
"""


class RunOptions(TypedDict, total=False):
    """The settings of :func:`run` that every attack passes on; see there."""

    targets: Tensor | None
    bounds: tuple[float, float]
    stop: bool
    restarts: int
    budget: int | None
    batch_size: int | None
    levels: int | None
    estimator: Estimator | None
    diagnose: bool
    seed: int
    generator: torch.Generator | None
    progress: bool


@overload
def drive(method: Method[T], answer: Callable[[Ask], Answer]) -> T: ...
@overload
def drive(method: Method[T], answer: Callable[[Ask], Answer | None]) -> T | None: ...
def drive(method: Method[T], answer: Callable[[Ask], Answer | None]) -> T | None:
    """Run a method to its end with a function that answers its asks.

    An answer of None means that there is nothing left to ask for; the method is closed and None returned. Otherwise
    returns what the method returns.

    Example:
        >>> from attacks.engine import Additive
        >>> x = torch.tensor([[2.0, 1.0]])
        >>> batch = Batch(x, torch.tensor([0]), None, torch.arange(1))
        >>> def method():
        ...     answer = yield Ask(x)
        ...     return answer.logits
        >>> drive(method(), lambda ask: evaluate(nn.Identity(), Additive(), ask, batch)[0])
        tensor([[4., 2.]])
    """
    try:
        ask = next(method)
        while (heard := answer(ask)) is not None:
            ask = method.send(heard)
    except StopIteration as end:
        return end.value
    method.close()
    return None


class Stream:
    """Puts asks about shared parameters to one batch after another, and counts the samples sent.

    A universal perturbation and a reprogramming program are made this way: the parameters stay, the batches go by.

    Attributes:
        forward_passes: samples sent through the model so far.
        backward_passes: samples whose gradient was taken so far.
    """

    def __init__(self, model: nn.Module, perturbation: Perturbation) -> None:
        self.model, self.perturbation = model, perturbation
        self.forward_passes = self.backward_passes = 0

    def on(self, batch: Batch) -> Callable[[Ask], Answer]:
        """What answers asks from this batch; hand it to :func:`drive`."""

        def answer(ask: Ask) -> Answer:
            self.forward_passes += len(batch)
            self.backward_passes += len(batch) * ask.gradient
            return evaluate(self.model, self.perturbation, ask, batch)[0]

        return answer


def run(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str,
    epsilon: float | Sequence[float] | None = None,
    perturbation: Perturbation | None = None,
    rank: Callable[[Tensor], Tensor] | None = None,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    stop: bool | None = None,
    restarts: int = 1,
    budget: int | None = None,
    batch_size: int | None = None,
    levels: int | None = None,
    estimator: Estimator | None = None,
    diagnose: bool = False,
    seed: int = 0,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> AttackResult:
    """Drive an attack on samples, one perturbation for each, and judge what it found.

    Args:
        attack: a method with its settings bound, called as ``attack(x, perturbation, generator=...)``, and with
            ``epsilon=`` where there is one.
        model: maps inputs to logits, shape ``[n, classes]``. Held in evaluation mode, its weights without gradients,
            while the run lasts.
        x: clean samples, float32, shape ``[n, ...]``, entries inside ``bounds``.
        labels: their classes, int64, shape ``[n]``.
        norm: the norm in which distances are reported: "linf", "l2", "l1" or "l0".
        epsilon: the largest distance that counts as success; None for any (minimum-norm attacks). Of several radii the
            smallest is tried first, and a sample that fell stays fallen, so one run answers all:
            see :meth:`AttackResult.at`.
        perturbation: what the parameters do to a sample; additive inside the bounds unless given.
        rank: of several successes of one sample, keep the one whose change, shape ``[n, ...]``, this ranks lowest,
            shape ``[n]`` (the ``size`` of a norm, say); None: keep the first.
        targets: the class that each sample shall be taken for, int64, shape ``[n]``; None: any but its label.
        bounds: the smallest and largest valid entry of an input.
        stop: leave a sample alone once it succeeded; by default unless there is a ``rank``.
        restarts: how often the attack is started; samples that are done take no part in later starts.
        budget: the most forward passes that one sample may cost, the final judgement included; None: no limit. Of
            several radii each may spend its share of what the smaller ones left.
        batch_size: samples in work at once, which bounds the memory; None: all.
        levels: count as success only what still succeeds when rounded to so many evenly spaced levels (256: 8-bit
            images), which costs another forward pass for each candidate that succeeds before; None: as they are.
            Methods that steer by the loss alone (alma, boundary_projection) do not see the levels.
        estimator: estimate the gradients that the attack asks for from queries, as :func:`by_queries` does, so that it
            needs no more than scores; made by :func:`nes`, :func:`rgf`, :func:`spsa`, :func:`coordinate`.
        diagnose: look first for signs that the model makes attacks look weak: random or saturated answers, gradients of
            zero. Costs two forward passes and, without an estimator, a backward one; what is found is in the result's
            ``notes``.
        seed: seeds all chance, on the model's device.
        generator: used instead of ``seed``.
        progress: show a bar over the batches.

    Returns:
        What was found, on the device of ``x``, judged in float32 on inputs clamped to the bounds.

    Raises:
        InputError: when samples, labels, targets, sizes or settings cannot be used as they are, or the model answers
            with NaN.
    """
    measure = get_norm(norm)
    check_bounds(bounds)
    check_samples(x, labels, targets, bounds)
    check_counts(restarts=restarts, batch_size=batch_size)
    check_counts(least=2, budget=budget, levels=levels)
    radii = () if epsilon is None else check_radii(epsilon)
    if perturbation is not None and perturbation.shared:
        raise InputError(
            "The perturbation is shared by all samples, but run makes one for each sample: use universal_perturbation, "
            "or a Stream of batches."
        )
    if not isinstance(estimator, Estimator | None):
        raise InputError(f"estimator={estimator!r} is none: make one with attacks.nes, rgf, spsa or coordinate.")
    method = attack if estimator is None else by_queries(attack, estimator, bounds=bounds)
    x, device = x.detach(), device_of(model, x)
    check_chance(seed, generator, device)
    draws = generator or torch.Generator(device).manual_seed(seed)
    chunk = batch_size or max(len(x), 256)
    rules = Rules(model, perturbation or Additive(bounds), measure, radii, rank, bounds, stop, budget, levels, chunk)
    parts, signs = [], Counter[str]()
    with frozen(model), tqdm(disable=not progress, unit="ask") as bar:
        for batch in _split(x, labels, targets, batch_size):
            rounds = Rounds(rules, _to(batch, device))
            if diagnose:
                look = diagnosis(rounds.batch.inputs, rules.perturbation, signs, gradient=estimator is None)
                drive(look, rounds.answer)
            for k, radius in enumerate(radii or (None,)):
                told = {} if radius is None else {"epsilon": radius}
                if radius is not None:
                    rounds.aim(radius, left=len(radii) - k)
                for _ in range(restarts):
                    asking = method(rounds.batch.inputs, rules.perturbation, generator=draws, **told)
                    drive(asking, _shown(rounds, bar))
            parts.append(rounds.judge().to(x.device))
            signs["cut"] += rounds.spent
    return replace(AttackResult.join(parts), notes=sentences(signs))


def _shown(rounds: Rounds, bar: "tqdm[NoReturn]") -> Callable[[Ask], Answer | None]:
    def answer(ask: Ask) -> Answer | None:
        if not bar.disable:
            bar.set_postfix(open=len(rounds.open), found=int(rounds.found.sum()), refresh=False)
            bar.update()
        return rounds.answer(ask)

    return answer


def _split(x: Tensor, labels: Tensor, targets: Tensor | None, batch_size: int | None) -> Iterator[Batch]:
    classes = 1 + int(labels.max() if targets is None else torch.maximum(labels, targets).max())
    whole = Batch(x, labels, targets, torch.arange(len(x), device=x.device), classes)
    if batch_size is None or batch_size >= len(x):
        yield whole
        return
    for rows in whole.rows.split(batch_size):
        yield replace(whole.take(rows), rows=torch.arange(len(rows), device=x.device))


def _to(batch: Batch, device: torch.device) -> Batch:
    targets = None if batch.targets is None else batch.targets.to(device)
    return Batch(batch.inputs.to(device), batch.labels.to(device), targets, batch.rows.to(device), batch.classes)
