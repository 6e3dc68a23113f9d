"""Asks and answers: what a method wants to know at a point, and what it hears.

A method is a generator. It yields an :class:`Ask`, receives an :class:`Answer`, and knows nothing of models, batches
that were split, rows that are done, or budgets: those belong to :mod:`attacks.engine.driver`.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

Parameters = Tensor | dict[str, Tensor]
"""What a method moves: one tensor with a row per sample, or named tensors that all samples share (a program)."""


@dataclass(frozen=True)
class Batch:
    """Samples with what is known of them.

    Attributes:
        inputs: the clean samples, shape ``[n, ...]``.
        labels: their classes, int64, shape ``[n]``.
        targets: the classes that a targeted run wants to see instead, int64, shape ``[n]``; None when untargeted.
        rows: the samples' places in the full batch, int64, shape ``[n]``; an objective with one constant per
            sample looks its constants up by them.
        classes: how many classes the model must have for these labels and targets; 0 where they are not the model's
            own, as in reprogramming.
    """

    inputs: Tensor
    labels: Tensor
    targets: Tensor | None
    rows: Tensor
    classes: int = 0

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Tensor) -> "Batch":
        """The samples at ``rows`` (int64 places in this batch), in that order."""
        targets = None if self.targets is None else self.targets[rows]
        return Batch(self.inputs[rows], self.labels[rows], targets, self.rows[rows], self.classes)


@dataclass(frozen=True)
class View:
    """What an objective sees at a point: the model's outputs, how they came about, and the samples' labels.

    Attributes:
        logits: the model's outputs, shape ``[n, classes]``.
        inputs: what was sent to the model, shape ``[n, ...]``.
        parameters: the point that was asked about, cut to these samples (whole when it is shared).
        batch: the clean samples, their labels and targets.
    """

    logits: Tensor
    inputs: Tensor
    parameters: Parameters
    batch: Batch


Objective = Callable[[View], Tensor]
"""A loss per sample, shape ``[n]``; lower is better for whoever moves the parameters.

Several losses per sample, shape ``[n, m]``, are allowed where the gradient of each is wanted (DeepFool, FAB).
"""


@dataclass(frozen=True)
class Ask:
    """A question at one point.

    Attributes:
        parameters: the point.
        objective: the loss to evaluate there; None asks for the outputs alone.
        gradient: whether the objective's gradient in the parameters is wanted as well.
        probe: the point only serves an estimate: its passes are counted, but it is never a candidate for the result.
        several: the point is ``m`` points for each sample, all of them probes without gradient: a tensor of shape
            ``[n, m, ...]``, whose answer has ``m`` entries for each sample as well.
        through: what happens to the inputs before the model sees them, for this ask alone: a random transformation.
            Such a point is a probe: what the model says of it is not what it says of the inputs.
        wanted: the samples that the method asks about, bool, shape ``[n]``; the others hear zeros and cost nothing.
            None: all that are open.
        moving: of named parameters, those whose gradient is wanted; None: all of them.
    """

    parameters: Parameters
    objective: Objective | None = None
    gradient: bool = False
    probe: bool = False
    several: bool = False
    through: Callable[[Tensor], Tensor] | None = None
    wanted: Tensor | None = None
    moving: tuple[str, ...] | None = None

    @property
    def is_probe(self) -> bool:
        """Whether the point is no candidate for the result."""
        return self.probe or self.several or self.through is not None


@dataclass(frozen=True)
class Answer:
    """What the model said at the point of an :class:`Ask`. Rows that are done hear zeros.

    After an ask about several points, every tensor has shape ``[n, m, ...]`` instead of ``[n, ...]``.

    Attributes:
        logits: shape ``[n, classes]``.
        fooled: whether the goal of the run is met: the label missed, or the target hit; bool, shape ``[n]``.
        loss: the objective's values, shape ``[n]`` or ``[n, m]``; zeros of shape ``[n]`` when the ask had none.
        gradient: of the summed loss, in the form of the ask's parameters; for ``m`` losses a sample one tensor of shape
            ``[n, m, ...]``; None unless the ask wanted it.
    """

    logits: Tensor
    fooled: Tensor
    loss: Tensor
    gradient: Parameters | None = None

    def slope(self) -> Tensor:
        """The gradient as one tensor, for methods that move one tensor and asked for its gradient."""
        if not isinstance(self.gradient, Tensor):
            raise TypeError("This answer has no gradient tensor: ask with gradient=True about a tensor.")
        return self.gradient


T = TypeVar("T")
Method = Generator[Ask, Answer, T]
"""A running method: yields asks, is sent answers, returns what it found (often nothing)."""
