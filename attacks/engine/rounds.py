"""A batch under attack: which samples are open, what each has cost, the best found for each, and the judgement."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from .asks import Answer, Ask, Batch, Parameters
from .constraints import Norm, per_sample
from .evaluation import evaluate
from .objectives import missed_or_hit
from .perturbations import Perturbation
from .results import AttackResult


@dataclass(frozen=True)
class Rules:
    """What holds for all batches of a run; see :func:`run`."""

    model: nn.Module
    perturbation: Perturbation
    norm: Norm
    epsilon: float | None
    rank: Callable[[Tensor], Tensor] | None
    bounds: tuple[float, float]
    stop: bool | None
    budget: int | None
    levels: int | None

    @property
    def stops(self) -> bool:
        """Whether a sample is left alone once it succeeded."""
        return self.rank is None if self.stop is None else self.stop

    def within(self, change: Tensor) -> Tensor:
        """Whether changes are small enough, up to what rounding does to entries of the bounds' magnitude."""
        if self.epsilon is None:
            return torch.ones(len(change), dtype=torch.bool, device=change.device)
        rounding = 8 * torch.finfo(change.dtype).eps * max(map(abs, self.bounds))
        return self.norm.size(change) <= self.epsilon * (1 + 1e-6) + rounding


class Rounds:
    """One batch under attack: which rows are open, what each has cost, and the best found for each."""

    def __init__(self, rules: Rules, batch: Batch) -> None:
        self.rules, self.batch = rules, batch
        self.open = batch.rows
        self.found = torch.zeros_like(batch.labels, dtype=torch.bool)
        self.best = batch.inputs.clone()
        self.lowest = torch.full(batch.labels.shape, torch.inf, device=batch.rows.device)
        self.latest, self.borrowed = batch.inputs, True
        self.forward_passes = torch.zeros_like(batch.labels)
        self.backward_passes = torch.zeros_like(batch.labels)

    def answer(self, ask: Ask) -> Answer | None:
        """Ask the model about the open rows; None once there are none."""
        self._close_spent(reserve=1 if self.rules.levels is None else 2)
        rows, whole = self.open, len(self.open) == len(self.batch)
        if not len(rows):
            return None
        part = self.batch if whole else self.batch.take(rows)
        parameters = ask.parameters if whole else _take(ask.parameters, rows)
        heard = evaluate(self.rules.model, self.rules.perturbation, replace(ask, parameters=parameters), part)
        self.forward_passes[rows] += 1
        self.backward_passes[rows] += int(ask.gradient)
        if not ask.probe:
            self._keep(heard, rows, whole)
        return heard if whole else _scatter(heard, rows, len(self.batch))

    def _close_spent(self, reserve: int) -> None:
        """Leave the rows alone that have no pass to spend beside those reserved: for the judgement, for rounding."""
        if self.rules.budget is not None:
            self.open = self.open[self.forward_passes[self.open] < self.rules.budget - reserve]

    def _keep(self, heard: Answer, rows: Tensor, whole: bool) -> None:
        """Remember the latest candidates, and among those that succeed the first or the lowest-ranked."""
        self._remember(heard.inputs, rows, whole)
        hits = heard.fooled.nonzero().squeeze(1)
        if len(hits):
            self._succeed(heard.inputs[hits], rows[hits])
        if self.rules.stops:
            self.open = self.open[~self.found[self.open]]

    def _remember(self, inputs: Tensor, rows: Tensor, whole: bool) -> None:
        if whole:
            self.latest, self.borrowed = inputs, True
            return
        if self.borrowed:
            self.latest, self.borrowed = self.latest.clone(), False
        self.latest.index_copy_(0, rows, inputs)

    def _succeed(self, inputs: Tensor, rows: Tensor) -> None:
        clean = self.batch.inputs[rows]
        if self.rules.levels is not None:
            inputs = _rounded(inputs, clean, self.rules.bounds, self.rules.levels)
            self.forward_passes[rows] += 1
            with torch.no_grad():
                holds = self._reached(self.rules.model(inputs).float(), rows)
            inputs, rows, clean = inputs[holds], rows[holds], clean[holds]
        change = inputs - clean
        rank = self.lowest.new_zeros(len(rows)) if self.rules.rank is None else self.rules.rank(change)
        better = self.rules.within(change) & (rank < self.lowest[rows])
        rows = rows[better]
        self.best[rows], self.lowest[rows], self.found[rows] = inputs[better], rank[better], True

    def _reached(self, logits: Tensor, rows: Tensor) -> Tensor:
        targets = None if self.batch.targets is None else self.batch.targets[rows]
        return missed_or_hit(logits, self.batch.labels[rows], targets)

    def judge(self) -> AttackResult:
        """Decide success anew, on what could really be sent."""
        rules, clean = self.rules, self.batch.inputs
        final = torch.where(per_sample(self.found, clean), self.best, self.latest).clamp(*rules.bounds)
        if rules.levels is not None:
            final = _rounded(final, clean, rules.bounds, rules.levels)
        with torch.no_grad():
            logits = rules.model(final).float()
        if bool(logits.isnan().any()):
            raise InputError(
                f"The model answered {int(logits.isnan().any(1).sum())} of {len(final)} samples with NaN, so nothing "
                "can be said of them: look for an overflow, in half precision above all, or a division by zero in it."
            )
        success = self._reached(logits, self.batch.rows) & rules.within(final - clean)
        distance = rules.norm.size(final - clean)
        passes = self.forward_passes + 1, self.backward_passes
        return AttackResult(final, success, distance, *passes, rules.norm.name, rules.epsilon)


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


def _rounded(x: Tensor, clean: Tensor, bounds: tuple[float, float], levels: int) -> Tensor:
    """The nearest levels; but none that is further from the clean entry than ``x`` is, where a level lies between."""
    low, step = bounds[0], (bounds[1] - bounds[0]) / (levels - 1)
    place, home = (x - low) / step, (clean - low) / step
    nearest = place.round()
    back = torch.where(place > home, place.floor().maximum(home.round()), place.ceil().minimum(home.round()))
    chosen = torch.where((nearest - home).abs() > (place - home).abs() + 1e-3, back, nearest)
    return (chosen * step + low).clamp(*bounds)
