"""The driver: puts the asks of a method to a model, and owns everything that methods share.

It evaluates each ask on the rows that are still open and scatters the answers back, so that a method keeps plain
full-batch tensors; counts the passes of every sample; keeps a hard budget; keeps the best point; and judges success at
the end on what a user could really send.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol, TypedDict, TypeVar, overload

import torch
from torch import Tensor, nn
from tqdm import tqdm

from attacks.errors import InputError

from .asks import Answer, Ask, Batch, Method, Parameters, View
from .checks import check_budget, check_samples
from .constraints import Norm, get_norm, per_sample
from .frozen import frozen
from .objectives import missed_or_hit
from .perturbations import Additive, Perturbation
from .results import AttackResult

T = TypeVar("T")


class Attack(Protocol):
    """What :func:`run` drives: a function that starts a method on a batch, its settings already bound."""

    def __call__(self, x: Tensor, perturbation: Perturbation, *, generator: torch.Generator) -> Method[object]:
        """Start the method on samples ``x`` of shape ``[n, ...]``; all its chance comes from ``generator``."""
        ...


class RunOptions(TypedDict, total=False):
    """The settings of :func:`run` that every attack passes on; see there."""

    targets: Tensor | None
    bounds: tuple[float, float]
    stop: bool
    restarts: int
    budget: int | None
    batch_size: int | None
    levels: int | None
    seed: int
    generator: torch.Generator | None
    progress: bool


def evaluate(model: nn.Module, perturbation: Perturbation, ask: Ask, batch: Batch) -> Answer:
    """Put one ask to the model, for every sample of a batch.

    The gradient is that of the *summed* objective, in the ask's parameters alone; hold the model in
    :func:`~attacks.engine.frozen.frozen` so that none is computed for its weights.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        perturbation: makes the inputs from the samples and the ask's parameters.
        ask: the question; its parameters have one row per sample of the batch, or are shared.
        batch: the samples.

    Raises:
        InputError: when a gradient is asked for and the model's outputs carry none.

    Example:
        >>> from attacks.engine import Additive, cross_entropy, untargeted
        >>> x = torch.zeros(2, 3)
        >>> batch = Batch(x, torch.tensor([0, 1]), None, torch.arange(2))
        >>> ask = Ask(x, untargeted(cross_entropy), gradient=True)
        >>> evaluate(nn.Identity(), Additive(), ask, batch).slope()
        tensor([[ 0.6667, -0.3333, -0.3333],
                [-0.3333,  0.6667, -0.3333]])
    """
    parameters = _leaves(ask.parameters) if ask.gradient else ask.parameters
    with torch.set_grad_enabled(ask.gradient):
        inputs = perturbation(batch.inputs, parameters)
        logits = model(inputs)
        loss = logits.new_zeros(len(batch))
        if ask.objective is not None:
            loss = ask.objective(View(logits, inputs, parameters, batch))
    if ask.gradient and not loss.requires_grad:
        raise InputError(
            "The method asks for a gradient, but the model's outputs carry none: use a model whose forward pass is "
            "differentiable and not behind access without gradients, or an attack that needs only scores or labels."
        )
    gradient = _gradient(loss, parameters) if ask.gradient else None
    fooled = missed_or_hit(logits.detach(), batch.labels, batch.targets)
    return Answer(logits.detach(), inputs.detach(), fooled, loss.detach(), gradient)


def _leaves(parameters: Parameters) -> Parameters:
    if isinstance(parameters, Tensor):
        return parameters.detach().requires_grad_()
    return {name: value.detach().requires_grad_() for name, value in parameters.items()}


def _gradient(loss: Tensor, parameters: Parameters) -> Parameters:
    if isinstance(parameters, Tensor):
        return torch.autograd.grad(loss.sum(), parameters)[0]
    # A tensor that the objective does not read (a mapping's weights, say) has a gradient of zero.
    slopes = torch.autograd.grad(loss.sum(), list(parameters.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(parameters, slopes, strict=True))


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
        >>> drive(method(), lambda ask: evaluate(nn.Identity(), Additive(), ask, batch))
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
            return evaluate(self.model, self.perturbation, ask, batch)

        return answer


def run(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str,
    epsilon: float | None = None,
    perturbation: Perturbation | None = None,
    smallest: bool = False,
    targets: Tensor | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    stop: bool | None = None,
    restarts: int = 1,
    budget: int | None = None,
    batch_size: int | None = None,
    levels: int | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> AttackResult:
    """Drive an attack on samples, one perturbation for each, and judge what it found.

    Args:
        attack: a method with its settings bound, called as ``attack(x, perturbation, generator=...)``.
        model: maps inputs to logits, shape ``[n, classes]``. Held in evaluation mode, its weights without gradients,
            while the run lasts.
        x: clean samples, float32, shape ``[n, ...]``, entries inside ``bounds``.
        labels: their classes, int64, shape ``[n]``.
        norm: the norm in which distances are reported: "linf", "l2", "l1" or "l0".
        epsilon: the largest distance that counts as success; None for any (minimum-norm attacks).
        perturbation: what the parameters do to a sample; additive inside the bounds unless given.
        smallest: of several successes of one sample, keep the nearest rather than the first.
        targets: the class that each sample shall be taken for, int64, shape ``[n]``; None: any but its label.
        bounds: the smallest and largest valid entry of an input.
        stop: leave a sample alone once it succeeded; by default unless ``smallest``.
        restarts: how often the attack is started; samples that are done take no part in later starts.
        budget: the most forward passes that one sample may cost, the final judgement included; None: no limit.
        batch_size: samples in work at once, which bounds the memory; None: all.
        levels: judge success on inputs rounded to so many evenly spaced levels (256: 8-bit images); None: as they are.
        seed: seeds all chance, on the model's device.
        generator: used instead of ``seed``.
        progress: show a bar over the batches.

    Returns:
        What was found, on the device of ``x``, judged in float32 on inputs clamped to the bounds.

    Raises:
        InputError: when samples, labels, targets, sizes or settings cannot be used as they are.
    """
    measure = get_norm(norm)
    check_samples(x, labels, targets, bounds)
    check_budget(restarts, budget, batch_size, levels)
    device = next(model.parameters(), x).device
    draws = generator or torch.Generator(device).manual_seed(seed)
    parts = []
    with frozen(model):
        for batch in tqdm(list(_split(x, labels, targets, batch_size)), disable=not progress, unit="batch"):
            rounds = _Rounds(
                model, perturbation or Additive(bounds), _to(batch, device), measure, smallest, stop, budget
            )
            for _ in range(restarts):
                drive(attack(rounds.batch.inputs, rounds.perturbation, generator=draws), rounds.answer)
            parts.append(rounds.judge(bounds, levels, epsilon).to(x.device))
    return AttackResult.join(parts)


def _split(x: Tensor, labels: Tensor, targets: Tensor | None, batch_size: int | None) -> Iterator[Batch]:
    whole = Batch(x, labels, targets, torch.arange(len(x), device=x.device))
    if batch_size is None or batch_size >= len(x):
        yield whole
        return
    for rows in whole.rows.split(batch_size):
        yield replace(whole.take(rows), rows=torch.arange(len(rows), device=x.device))


def _to(batch: Batch, device: torch.device) -> Batch:
    targets = None if batch.targets is None else batch.targets.to(device)
    return Batch(batch.inputs.to(device), batch.labels.to(device), targets, batch.rows.to(device))


class _Rounds:
    """One batch under attack: which rows are open, what each has cost, and the best found for each."""

    def __init__(
        self,
        model: nn.Module,
        perturbation: Perturbation,
        batch: Batch,
        norm: Norm,
        smallest: bool,
        stop: bool | None,
        budget: int | None,
    ) -> None:
        self.model, self.perturbation, self.batch, self.norm = model, perturbation, batch, norm
        self.smallest, self.budget = smallest, budget
        self.stop = not smallest if stop is None else stop
        self.open = batch.rows
        self.found = torch.zeros_like(batch.labels, dtype=torch.bool)
        self.nearest = torch.full_like(batch.inputs.flatten(1)[:, 0], torch.inf)
        self.adversarial = batch.inputs
        self.forward_passes = torch.zeros_like(batch.labels)
        self.backward_passes = torch.zeros_like(batch.labels)

    def answer(self, ask: Ask) -> Answer | None:
        """Ask the model about the open rows; None once there are none."""
        if self.budget is not None:  # One pass of each sample's budget is kept for the judgement.
            self.open = self.open[self.forward_passes[self.open] < self.budget - 1]
        rows, whole = self.open, len(self.open) == len(self.batch)
        if not len(rows):
            return None
        part = self.batch if whole else self.batch.take(rows)
        parameters = ask.parameters if whole else _take(ask.parameters, rows)
        heard = evaluate(self.model, self.perturbation, replace(ask, parameters=parameters), part)
        self.forward_passes[rows] += 1
        self.backward_passes[rows] += int(ask.gradient)
        if not ask.probe:
            self._keep(heard, rows, whole)
        return heard if whole else _scatter(heard, rows, len(self.batch))

    def _keep(self, heard: Answer, rows: Tensor, whole: bool) -> None:
        """Remember the rows' best points: the first or nearest success, or else the latest candidate."""
        found = self.found[rows]
        better = heard.fooled & ~found
        if self.smallest:
            size = self.norm.size(heard.inputs - self.batch.inputs[rows])
            better = heard.fooled & (size < self.nearest[rows])
            self.nearest[rows] = torch.where(better, size, self.nearest[rows])
        kept = self.adversarial if whole else self.adversarial[rows]
        kept = torch.where(per_sample(better | ~found, kept), heard.inputs, kept)
        self.adversarial = kept if whole else self.adversarial.index_copy(0, rows, kept)
        self.found[rows] = found | heard.fooled
        if self.stop:
            self.open = rows[~heard.fooled]

    def judge(self, bounds: tuple[float, float], levels: int | None, epsilon: float | None) -> AttackResult:
        """Decide success anew, on what could really be sent."""
        batch, final = self.batch, self.adversarial.clamp(*bounds)
        if levels is not None:
            final = _round_towards(final, batch.inputs, bounds, levels)
        with torch.no_grad():
            logits = self.model(final)
        distance = self.norm.size(final - batch.inputs)
        success = missed_or_hit(logits, batch.labels, batch.targets)
        if epsilon is not None:
            success &= distance <= epsilon * (1 + 1e-6) + 1e-6
        return AttackResult(
            final, success, distance, self.forward_passes + 1, self.backward_passes, self.norm.name, epsilon
        )


def _take(parameters: Parameters, rows: Tensor) -> Parameters:
    if isinstance(parameters, Tensor):
        return parameters[rows]
    return {name: value[rows] for name, value in parameters.items()}


def _scatter(heard: Answer, rows: Tensor, n: int) -> Answer:
    """The open rows' answers at their places in the full batch; zeros elsewhere."""

    def spread(values: Tensor) -> Tensor:
        return values.new_zeros(n, *values.shape[1:]).index_copy(0, rows, values)

    gradient = heard.gradient
    if gradient is not None:
        gradient = spread(gradient) if isinstance(gradient, Tensor) else {k: spread(v) for k, v in gradient.items()}
    return Answer(spread(heard.logits), spread(heard.inputs), spread(heard.fooled), spread(heard.loss), gradient)


def _round_towards(x: Tensor, clean: Tensor, bounds: tuple[float, float], levels: int) -> Tensor:
    """Round to the levels; where that moves an entry further from the clean one, take the level before it."""
    low, step = bounds[0], (bounds[1] - bounds[0]) / (levels - 1)
    rounded = ((x - low) / step).round()
    further = (rounded * step + low - clean).abs() > (x - clean).abs() + 1e-6
    return ((rounded - further * (x - clean).sign()) * step + low).clamp(*bounds)
