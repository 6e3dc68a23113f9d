"""A batch under attack: which samples are open, what each has cost, the best found for each, and the judgement."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from attacks.errors import BudgetError, InputError

from .asks import Answer, Ask, Batch, Parameters
from .constraints import Norm, per_sample
from .evaluation import evaluate, logits_of
from .objectives import missed_or_hit
from .perturbations import Perturbation, Relative, as_tensor
from .results import AttackResult


@dataclass(frozen=True)
class Rules:
    """What holds for all batches of a run; see :func:`run`."""

    model: nn.Module
    perturbation: Perturbation
    norm: Norm
    radii: tuple[float, ...]
    rank: Callable[[Tensor], Tensor] | None
    bounds: tuple[float, float]
    stop: bool | None
    budget: int | None
    levels: int | None
    chunk: int

    @property
    def stops(self) -> bool:
        """Whether a sample is left alone once it succeeded."""
        return self.rank is None if self.stop is None else self.stop

    def within(self, change: Tensor, clean: Tensor, epsilon: float | None) -> Tensor:
        """Whether changes are small enough, up to what rounding does to entries of the bounds' magnitude."""
        if epsilon is None:
            return torch.ones(len(change), dtype=torch.bool, device=change.device)
        rounding = 8 * torch.finfo(change.dtype).eps * max(map(abs, self.bounds))
        return self.norm.size(change) <= epsilon * (1 + 1e-6) * self.unit(clean) + rounding

    def unit(self, clean: Tensor) -> Tensor | float:
        """The size of a change that counts as a distance of 1."""
        return self.perturbation.unit(clean) if isinstance(self.perturbation, Relative) else 1.0


class Rounds:
    """One batch under attack: which rows are open, what each has cost, and the best found for each."""

    def __init__(self, rules: Rules, batch: Batch) -> None:
        self.rules, self.batch = rules, batch
        self.epsilon: float | None = None
        self.open, self.spent = batch.rows, False
        self.found = torch.zeros_like(batch.labels, dtype=torch.bool)
        self.best = batch.inputs.clone()
        self.lowest = torch.full(batch.labels.shape, torch.inf, device=batch.rows.device)
        self.reached, self.latest = batch.inputs.clone(), batch.inputs
        self.kept: Tensor | None = None
        self.parted: Tensor | None = None
        self.part = batch
        self.forward_passes = torch.zeros_like(batch.labels)
        self.backward_passes = torch.zeros_like(batch.labels)
        self.limit = None if rules.budget is None else torch.full_like(batch.labels, rules.budget)
        self.width = batch.classes

    def aim(self, epsilon: float, left: int = 1) -> None:
        """Turn to a radius, larger than those before: what was found in a smaller ball lies in this one as well.

        With a budget this radius may spend its share of what is left: as much as each of the ``left`` radii to come.
        """
        self.epsilon = epsilon
        self.open = self.batch.rows[~self.found] if not self.spent else self.open[:0]
        if self.rules.budget is not None:
            self.limit = self.forward_passes + (self.rules.budget - self.forward_passes) // left

    def answer(self, ask: Ask) -> Answer | None:
        """Ask the model about the open rows; None once there are none, or once the model's own budget is spent."""
        points = as_tensor(ask.parameters).shape[1] if ask.several else 1
        self._close_spent(points, reserve=1 if self.rules.levels is None else 2)
        if not len(self.open):
            return None
        rows = self.open if ask.wanted is None else self.open[ask.wanted[self.open]]
        if not len(rows):
            return _silence(ask, self.batch, self.width)
        whole = len(rows) == len(self.batch)
        part = self._part(rows)
        try:
            asked = ask if whole else replace(ask, parameters=_take(ask.parameters, rows))
            heard, inputs = self._put(asked, part, rows)
            self.width = heard.logits.shape[-1]
            if not ask.is_probe:
                heard = replace(heard, fooled=self._keep(heard.fooled, inputs, rows))
        except BudgetError:
            self.open, self.spent = self.open[:0], True
            return None
        return heard if whole else _scatter(heard, rows, len(self.batch))

    def _part(self, rows: Tensor) -> Batch:
        """These samples of the batch; gathered once for as long as the same ones are asked about."""
        if rows is not self.parted:
            self.parted = rows
            self.part = self.batch if len(rows) == len(self.batch) else self.batch.take(rows)
        return self.part

    def _put(self, ask: Ask, part: Batch, rows: Tensor) -> tuple[Answer, Tensor]:
        """What the model says, counted as it is sent: a model's own budget may end between two pieces."""
        model, perturbation = self.rules.model, self.rules.perturbation
        if not ask.several:
            heard, inputs = evaluate(model, perturbation, ask, part)
            self.forward_passes[rows] += 1
            self.backward_passes[rows] += _losses(heard) if ask.gradient else 0
            return heard, inputs
        points = as_tensor(ask.parameters)
        n, m = points.shape[:2]
        owner = torch.arange(n, device=points.device).repeat_interleave(m)
        pieces, chunk = [], self.rules.chunk
        for some, whose in zip(points.flatten(0, 1).split(chunk), owner.split(chunk), strict=True):
            pieces.append(evaluate(model, perturbation, replace(ask, parameters=some), part.take(whose)))
            self.forward_passes.index_add_(0, rows[whose], torch.ones_like(whose))
        logits, fooled, loss = (
            torch.cat([getattr(heard, name) for heard, _ in pieces]).unflatten(0, (n, m))
            for name in ("logits", "fooled", "loss")
        )
        return Answer(logits, fooled, loss), torch.cat([inputs for _, inputs in pieces])

    def _close_spent(self, points: int, reserve: int) -> None:
        """Leave the rows alone that cannot pay for these points beside what is reserved: the judgement, rounding."""
        if self.limit is not None:
            affordable = self.forward_passes[self.open] + points <= self.limit[self.open] - reserve
            self.open = self.open if bool(affordable.all()) else self.open[affordable]

    def _keep(self, fooled: Tensor, inputs: Tensor, rows: Tensor) -> Tensor:
        """Remember the latest candidates, and among those that succeed the first or the lowest-ranked.

        Returns:
            Which succeed, bool, shape ``[len(rows)]``: with levels, only those that do once they are rounded.
        """
        if rows is not self.kept:  # other rows than last time: write down what the others came to
            self._write_down()
        self.latest, self.kept = inputs, rows
        hits = fooled.nonzero().squeeze(1)
        if len(hits):
            fooled = fooled.index_copy(0, hits, self._succeed(inputs[hits], rows[hits]))
            if self.rules.stops:
                self.open = self.open[~self.found[self.open]]
        return fooled

    def _write_down(self) -> None:
        if self.kept is not None:
            self.reached.index_copy_(0, self.kept, self.latest)

    def _succeed(self, inputs: Tensor, rows: Tensor) -> Tensor:
        clean, holds = self.batch.inputs[rows], torch.ones_like(rows, dtype=torch.bool)
        if self.rules.levels is not None:
            inputs = _rounded(inputs, clean, self.rules.bounds, self.rules.levels)
            with torch.no_grad():
                holds = self._reached(logits_of(self.rules.model, inputs), rows)
            self.forward_passes[rows] += 1
            inputs, rows, clean = inputs[holds], rows[holds], clean[holds]
        change = inputs - clean
        rank = self.lowest.new_zeros(len(rows)) if self.rules.rank is None else self.rules.rank(change)
        better = self.rules.within(change, clean, self.epsilon) & (rank < self.lowest[rows])
        rows = rows[better]
        self.best[rows], self.lowest[rows], self.found[rows] = inputs[better], rank[better], True
        return holds

    def _reached(self, logits: Tensor, rows: Tensor) -> Tensor:
        targets = None if self.batch.targets is None else self.batch.targets[rows]
        return missed_or_hit(logits, self.batch.labels[rows], targets)

    def judge(self) -> AttackResult:
        """Decide success anew, on what could really be sent."""
        rules, clean = self.rules, self.batch.inputs
        self._write_down()
        final = torch.where(per_sample(self.found, clean), self.best, self.reached).clamp(*rules.bounds)
        if rules.levels is not None:
            final = _rounded(final, clean, rules.bounds, rules.levels)
        success = self.found if self.spent else self._look(final) & rules.within(final - clean, clean, self.epsilon)
        passes = self.forward_passes + (not self.spent), self.backward_passes
        distance = rules.norm.size(final - clean) / rules.unit(clean)
        return AttackResult(final, success, distance, *passes, rules.norm.name, self.epsilon, rules.radii)

    @torch.no_grad()
    def _look(self, final: Tensor) -> Tensor:
        """Whether these reach the goal; a model whose own budget is spent has said so while it was asked."""
        try:
            logits = logits_of(self.rules.model, final)
        except BudgetError:
            self.spent = True
            return self.found
        if bool(logits.isnan().any()):
            raise InputError(
                f"The model answered {int(logits.isnan().any(1).sum())} of {len(final)} samples with NaN, so nothing "
                "can be said of them: look for an overflow, in half precision above all, or a division by zero in it."
            )
        return self._reached(logits, self.batch.rows)


def _take(parameters: Parameters, rows: Tensor) -> Parameters:
    if isinstance(parameters, Tensor):
        return parameters[rows]
    return {name: value[rows] for name, value in parameters.items()}


def _losses(heard: Answer) -> int:
    """How many gradients an answer took of each sample."""
    return heard.loss.shape[1] if heard.loss.dim() == 2 else 1


def _silence(ask: Ask, batch: Batch, classes: int) -> Answer:
    """The answer when all rows that are open are rows that the method does not ask about."""
    shape = as_tensor(ask.parameters).shape[: 2 if ask.several else 1]
    nothing = torch.zeros(shape, dtype=batch.inputs.dtype, device=batch.inputs.device)
    logits = nothing[..., None].expand(*shape, classes)
    gradient = torch.zeros_like(as_tensor(ask.parameters)) if ask.gradient else None
    return Answer(logits, nothing.bool(), nothing, gradient)


def _scatter(heard: Answer, rows: Tensor, n: int) -> Answer:
    """The open rows' answers at their places in the full batch; zeros elsewhere."""

    def spread(values: Tensor) -> Tensor:
        return values.new_zeros(n, *values.shape[1:]).index_copy_(0, rows, values)

    gradient = heard.gradient
    if gradient is not None:
        gradient = spread(gradient) if isinstance(gradient, Tensor) else {k: spread(v) for k, v in gradient.items()}
    return Answer(spread(heard.logits), spread(heard.fooled), spread(heard.loss), gradient)


def _rounded(x: Tensor, clean: Tensor, bounds: tuple[float, float], levels: int) -> Tensor:
    """The nearest levels; but none that is further from the clean entry than ``x`` is, where a level lies between."""
    low, step = bounds[0], (bounds[1] - bounds[0]) / (levels - 1)
    place, home = (x - low) / step, (clean - low) / step
    nearest = place.round()
    back = torch.where(place > home, place.floor().maximum(home.round()), place.ceil().minimum(home.round()))
    chosen = torch.where((nearest - home).abs() > (place - home).abs() + 1e-3, back, nearest)
    return (chosen * step + low).clamp(*bounds)
