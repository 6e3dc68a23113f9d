"""What a training came to, epoch by epoch, and how accuracy is measured."""

from dataclasses import dataclass

from torch import Tensor, nn

from attacks.engine import Rate
from attacks.models import batched_logits


def accuracy(model: nn.Module, samples: Tensor, labels: Tensor, *, batch_size: int = 128) -> Rate:
    """The share of samples that a model classifies right, with its interval.

    Args:
        model: for instance what :meth:`Program.attach` returns; on any device.
        samples: shape ``[n, ...]``, at least one.
        labels: their classes, int64, shape ``[n]``, beside the samples.
        batch_size: samples sent at once.

    Example:
        >>> import torch
        >>> print(accuracy(nn.Identity(), torch.eye(4), torch.tensor([0, 1, 2, 0])))
        0.750 [0.301, 0.954] n=4
    """
    return Rate.of(batched_logits(model, samples, batch_size=batch_size).argmax(1) == labels)


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        number: 0 is the pass before training: the mapping alone, on samples that no program has changed.
        loss: mean cross-entropy over the training samples as they went by, in nats.
        train: accuracy on the training samples as they went by, augmented ones from epoch 1 on.
        validation: accuracy on the validation samples after the epoch; None without any.
        mapping_change: the share of the label mapping's weight that the epoch moved to other source classes, in [0, 1]
            (:func:`~reprog.labels.mapping_change`); None for epoch 0.
    """

    number: int
    loss: float
    train: Rate
    validation: Rate | None
    mapping_change: float | None = None

    def __str__(self) -> str:
        validation = "" if self.validation is None else f", validation {self.validation}"
        return f"epoch {self.number}: loss {self.loss:.4f}, train {self.train}{validation}"


@dataclass(frozen=True)
class History:
    """The epochs of a training and what it cost.

    Attributes:
        epochs: all of them, the pass before training first.
        kept: the number of the epoch whose tensors the program holds: the last one of those with the best validation
            accuracy, or without validation the last.
        last_tensors: the tensors after the last epoch, for showing both; the program's own where it was kept.
        forward_passes: training samples sent through the model, each pass of each sample counted.
        backward_passes: training samples whose gradient was taken.
        seconds: wall-clock, validation included.
    """

    epochs: list[Epoch]
    kept: int
    last_tensors: dict[str, Tensor]
    forward_passes: int
    backward_passes: int
    seconds: float

    @property
    def mapping_only(self) -> Epoch:
        """Epoch 0: what the label mapping reaches without a program."""
        return self.epochs[0]

    @property
    def last(self) -> Epoch:
        """The last epoch."""
        return self.epochs[-1]

    @property
    def best(self) -> Epoch:
        """The epoch that was kept."""
        return self.epochs[self.kept]

    def __str__(self) -> str:
        return f"mapping only: {self.mapping_only}\nkept: {self.best}\nlast: {self.last}"
