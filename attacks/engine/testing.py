"""What to run on an attack, a loss, a norm or a perturbation of your own before you believe its numbers.

Each check raises an ``AssertionError`` that says in a sentence what does not hold; call them from a test. This
package's own attacks pass the same checks.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from .asks import Batch, Objective, View
from .constraints import get_norm
from .objectives import Loss
from .perturbations import Perturbation, as_tensor
from .results import AttackResult

SHAPES: tuple[tuple[int, ...], ...] = ((8,), (4, 6), (3, 7, 7))
BATCHES = (1, 3, 8)
ROUNDING = 1e-6


class LinearModel(nn.Module):
    """Logits that are linear in the flattened sample, centred on the middle of [0, 1]; counts what is sent.

    On two such classes the nearest adversarial sample is known in closed form: see :meth:`nearest`.

    Attributes:
        sent: samples sent through the model so far.
        differentiated: samples whose gradient was taken so far.
    """

    def __init__(self, shape: Sequence[int], *, classes: int = 2, seed: int = 0) -> None:
        super().__init__()
        size = int(torch.tensor(tuple(shape)).prod())
        self.weight = nn.Parameter(torch.randn(classes, size, generator=torch.Generator().manual_seed(seed)))
        self.sent = self.differentiated = 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape ``[n, classes]``."""
        self.sent += len(x)
        if x.requires_grad:
            x.register_hook(self._count)
        return (x - 0.5).flatten(1) @ self.weight.T

    def _count(self, gradient: Tensor) -> None:
        self.differentiated += len(gradient)

    @torch.no_grad()
    def nearest(self, x: Tensor, labels: Tensor, norm: str) -> Tensor:
        """The least distance at which two classes tie, shape ``[n]``, for samples in [0, 1] that are classified right.

        In l-inf and l2 the margin over the dual norm of the slope; the caller sees to it that the box does not bind. In
        l1 the steepest entries are spent first, each up to the edge of the box; in l0 those with the most to give.
        """
        away = self.weight[1 - labels] - self.weight[labels]
        short = -(away * (x - 0.5).flatten(1)).sum(1)
        if norm in ("linf", "l2"):
            return short / (away.abs().sum(1) if norm == "linf" else away.norm(dim=1))
        room = torch.where(away > 0, 1 - x.flatten(1), x.flatten(1))
        gain, order = (away.abs() if norm == "l1" else away.abs() * room).sort(dim=1, descending=True)
        spent = room.gather(1, order) if norm == "l1" else torch.ones_like(gain)
        reached = (gain * (spent if norm == "l1" else 1)).cumsum(1)
        last = (reached < short[:, None]).sum(1, keepdim=True)
        before = torch.cat([torch.zeros_like(reached[:, :1]), reached], dim=1).gather(1, last).squeeze(1)
        whole = torch.cat([torch.zeros_like(spent[:, :1]), spent.cumsum(1)], dim=1).gather(1, last).squeeze(1)
        rest = (short - before) / gain.gather(1, last).squeeze(1)
        return whole + (rest if norm == "l1" else 1)


def near_the_middle(n: int, shape: Sequence[int], *, seed: int = 1) -> Tensor:
    """Samples within 0.05 of 0.5, so that the box does not bind before a ball does."""
    return 0.5 + 0.1 * (torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) - 0.5)


def check_attack(
    attack: Callable[..., AttackResult],
    *,
    norm: str,
    minimum: bool = False,
    ratio: float = 1.05,
    shapes: Sequence[Sequence[int]] = SHAPES,
    batches: Sequence[int] = BATCHES,
    targeted: bool = True,
) -> None:
    """Check an attack on linear models, where the nearest adversarial sample is known in closed form.

    Args:
        attack: called as ``attack(model, x, labels, **options)`` with its settings bound; a fixed-budget one also gets
            ``epsilon=``.
        norm: the norm in which the attack measures; the attack has it bound.
        minimum: whether it looks for the nearest sample rather than inside a ball.
        ratio: how far from the optimum it may end: a minimum-norm attack's distance over it, or the radius, as a
            multiple of it, at which a fixed-budget attack must succeed on every sample.
        shapes: of the samples.
        batches: their counts.
        targeted: whether it takes ``targets=``.

    Raises:
        AssertionError: with a sentence that says what does not hold, and for which shape and batch.

    Example:
        >>> from attacks.evasion import fgsm
        >>> check_attack(partial(fgsm, norm="l2"), norm="l2")
    """
    for shape in shapes:
        for n in batches:
            _check_against_the_optimum(attack, norm, minimum, ratio, tuple(shape), n)
    shape = tuple(shapes[-1])
    model, x = LinearModel(shape, classes=5), torch.rand(6, *shape, generator=torch.Generator().manual_seed(2))
    labels = model(x).argmax(1)
    radius = {} if minimum else {"epsilon": 2 * _typical(model, x, labels, norm)}
    bound = partial(attack, model, **radius)
    _check_result(bound, model, x, labels, norm)
    _check_repeatable(bound, x, labels)
    _check_budget(bound, model, x, labels)
    if targeted:
        targets = (labels + 1) % 5
        result = attack(model, x, labels, targets=targets, **({} if minimum else {"epsilon": 20 * radius["epsilon"]}))
        reached = model(result.adversarial).argmax(1) == targets
        _demand(bool((result.success == reached).all()), "a targeted run does not judge success by its targets")
        _demand(bool(result.success.any()), "a targeted run reaches none of its targets, though it may go very far")


def _check_against_the_optimum(
    attack: Callable[..., AttackResult], norm: str, minimum: bool, ratio: float, shape: tuple[int, ...], n: int
) -> None:
    model, x = LinearModel(shape), near_the_middle(n, shape)
    labels = model(x).argmax(1)
    needed, where = model.nearest(x, labels, norm), f"for shape {shape} and {n} samples"
    if minimum:
        result = attack(model, x, labels)
        _demand(bool(result.success.all()), f"{int((~result.success).sum())} samples were not fooled {where}")
        worst = float((result.distance / needed).max())
        _demand(worst <= ratio, f"the distance is {worst:.3f} times the optimum, not at most {ratio} times, {where}")
        # Half a thousandth of the distance is what rounding in the logits can be worth.
        _demand(bool((result.distance >= needed * (1 - 5e-4)).all()), f"a distance is below the optimum {where}")
        return
    for row in range(n):
        one, label, radius = x[row : row + 1], labels[row : row + 1], float(needed[row])
        inside = attack(model, one, label, epsilon=0.98 * radius if norm != "l0" else radius - 1)
        _demand(not inside.success.any(), f"a sample fell in a ball that holds no adversarial one {where}")
        result = attack(model, one, label, epsilon=ratio * radius)
        _demand(bool(result.success.all()), f"a sample stood in a ball of {ratio} times the optimum {where}")


def _check_result(bound: Callable[..., AttackResult], model: LinearModel, x: Tensor, labels: Tensor, norm: str) -> None:
    model.sent = model.differentiated = 0
    before = x.clone(), labels.clone()
    watch = model.register_forward_pre_hook(_check_input)
    result = bound(x, labels)
    watch.remove()
    sent, differentiated = model.sent, model.differentiated
    kept = torch.equal(x, before[0]) and torch.equal(labels, before[1])
    _demand(kept, "the samples or labels that were handed over have changed")
    counted = int(result.forward_passes.sum()), int(result.backward_passes.sum())
    _demand(counted[0] == sent, f"{counted[0]} forward passes are reported, but the model saw {sent} samples")
    _demand(counted[1] == differentiated, f"{counted[1]} backward passes are reported, but {differentiated} were taken")
    low, high = (float(value) for value in result.adversarial.aminmax())
    _demand(low >= -ROUNDING and high <= 1 + ROUNDING, f"adversarial samples lie in [{low:g}, {high:g}], not in [0, 1]")
    distance = get_norm(norm).size(result.adversarial - x)
    same = torch.allclose(distance, result.distance, rtol=1e-5, atol=1e-6)
    _demand(same, "the distances are not those of the samples")
    if result.epsilon is not None:
        over = float((distance[result.success] - result.epsilon).max()) if result.success.any() else 0.0
        slack = ROUNDING * max(1.0, result.epsilon)
        _demand(over <= slack, f"a success lies {over:.2g} outside the ball of radius {result.epsilon:g}")
    wrong = model(result.adversarial).argmax(1) != labels
    _demand(bool((wrong == result.success).all()), "success is not what the model says of the samples handed back")
    if not bool(result.success.any()):
        raise AssertionError("No sample of a random five-class model fell, though the ball is twice what is typical.")


def _check_input(model: nn.Module, sent: tuple[Tensor, ...]) -> None:
    _demand(sent[0].dtype == torch.float32, f"the model is sent {sent[0].dtype}, not torch.float32")
    low, high = (float(value) for value in sent[0].detach().aminmax())
    inside = low >= -ROUNDING and high <= 1 + ROUNDING
    _demand(inside, f"the model is sent values in [{low:g}, {high:g}], not in [0, 1]")


def _check_repeatable(bound: Callable[..., AttackResult], x: Tensor, labels: Tensor) -> None:
    first, again = bound(x, labels, seed=3), bound(x, labels, seed=3)
    _demand(torch.equal(first.adversarial, again.adversarial), "the same seed gives other samples")
    drawn = bound(x, labels, generator=torch.Generator().manual_seed(3))
    _demand(torch.equal(first.adversarial, drawn.adversarial), "a generator gives other samples than its seed")
    before = torch.get_rng_state()
    bound(x, labels)
    _demand(torch.equal(before, torch.get_rng_state()), "the attack draws from torch's own generator, not from its own")
    pieces = bound(x, labels, batch_size=4)
    _demand(pieces.adversarial.shape == x.shape, "a run in pieces of batch_size=4 hands back another shape")


def _check_budget(bound: Callable[..., AttackResult], model: LinearModel, x: Tensor, labels: Tensor) -> None:
    for budget in (2, 7):
        result = bound(x, labels, budget=budget)
        most = int(result.forward_passes.max())
        _demand(most <= budget, f"a sample cost {most} forward passes of a budget of {budget}")
        wrong = model(result.adversarial).argmax(1) != labels
        honest = bool((~result.success | wrong).all())
        _demand(honest, f"success is claimed for samples that are right, with a budget of {budget}")


@torch.no_grad()
def _typical(model: LinearModel, x: Tensor, labels: Tensor, norm: str) -> float:
    """About how far the nearest other class is, as if there were no box."""
    logits = model(x)
    gaps = logits.gather(1, labels[:, None]) - logits
    slopes = (model.weight[labels][:, None] - model.weight).flatten(0, 1)
    size = {"linf": slopes.abs().sum(1), "l2": slopes.norm(dim=1), "l1": slopes.abs().amax(1)}.get(norm)
    if size is None:  # l0: each entry gives about half its weight
        size = slopes.abs().mean(1) / 2
    distance = (gaps.flatten() / size.clamp_min(1e-9)).reshape(gaps.shape).scatter(1, labels[:, None], torch.inf)
    return float(distance.amin(1).median()) if norm != "l0" else float(distance.amin(1).median().ceil())


def check_loss(loss: Loss, *, classes: int = 5) -> None:
    """Check a loss of logits and classes: its form, that samples do not meet, and that low means sure of the class.

    Raises:
        AssertionError: with a sentence that says what does not hold.

    Example:
        >>> from attacks.engine import margin
        >>> check_loss(margin)
    """
    logits = torch.randn(6, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(6) % classes
    values = loss(logits, labels)
    _demand(values.shape == (6,), f"the loss of 6 samples has shape {tuple(values.shape)}, not (6,)")
    alone = torch.cat([loss(logits[i : i + 1], labels[i : i + 1]) for i in range(6)])
    _demand(torch.allclose(values, alone), "the loss of a sample depends on the others of its batch")
    right = 9 * nn.functional.one_hot(labels, classes).double() + 0.1 * logits
    wrong = 9 * nn.functional.one_hot((labels + 1) % classes, classes).double() + 0.1 * logits
    lower = loss(right, labels) < loss(wrong, labels)
    _demand(bool(lower.all()), "the loss is not lower where the model is sure of the class than where it is of another")
    torch.autograd.gradcheck(lambda values: loss(values, labels), logits.clone().requires_grad_())


def check_objective(objective: Objective, x: Tensor, labels: Tensor, logits: Tensor) -> None:
    """Check an objective at clean samples: its form, and that samples do not meet.

    Args:
        objective: a loss per sample, or several.
        x: clean samples, shape ``[n, ...]``.
        labels: their classes, shape ``[n]``.
        logits: what a model says of them, shape ``[n, classes]``.

    Raises:
        AssertionError: with a sentence that says what does not hold.

    Example:
        >>> from attacks.engine import margin, untargeted
        >>> check_objective(untargeted(margin), torch.zeros(2, 3), torch.tensor([0, 1]), torch.eye(2))
    """

    def at(rows: Tensor) -> Tensor:
        batch = Batch(x[rows], labels[rows], None, rows)
        return objective(View(logits[rows], x[rows], torch.zeros_like(x[rows]), batch))

    everyone = torch.arange(len(x))
    values = at(everyone)
    _demand(
        values.dim() in (1, 2) and len(values) == len(x),
        f"the objective of {len(x)} samples has shape {tuple(values.shape)}, not [n] or [n, m]",
    )
    _demand(bool(values.isfinite().all()), "the objective is no finite number at a clean sample")
    alone = torch.cat([at(row) for row in everyone.split(1)])
    _demand(torch.allclose(values, alone, atol=1e-6), "the objective of a sample depends on the others of its batch")


def check_perturbation(perturbation: Perturbation, x: Tensor) -> None:
    """Check a perturbation of one tensor on samples of yours.

    Args:
        perturbation: how parameters make inputs.
        x: clean samples, float32, shape ``[n, ...]``, at least two.

    Raises:
        AssertionError: with a sentence that says what does not hold.

    Example:
        >>> from attacks.engine import Additive
        >>> check_perturbation(Additive(), torch.rand(3, 4))
    """
    start = as_tensor(perturbation.start(x))
    rows = 1 if perturbation.shared else len(x)
    _demand(len(start) == rows, f"start gives parameters for {len(start)} samples, not for {rows}")
    draws = torch.Generator().manual_seed(0)
    moved = start + torch.randn(start.shape, generator=draws)
    clipped = as_tensor(perturbation.clip(x, moved))
    again = as_tensor(perturbation.clip(x, clipped))
    _demand(torch.allclose(clipped, again, atol=1e-6), "clipping what is clipped changes it")
    inputs = perturbation(x, clipped)
    _demand(len(inputs) == len(x), f"{len(x)} samples became {len(inputs)} inputs")
    leaf = clipped.clone().requires_grad_()
    (slope,) = torch.autograd.grad(perturbation(x, leaf).sum(), leaf)
    _demand(bool(slope.isfinite().all()), "the inputs' gradient in the parameters is no finite number")
    if not perturbation.shared:
        alone = torch.cat([perturbation(x[i : i + 1], clipped[i : i + 1]) for i in range(len(x))])
        _demand(torch.allclose(inputs, alone, atol=1e-6), "the input of a sample depends on the others of its batch")


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(f"{otherwise[0].upper()}{otherwise[1:]}.")
