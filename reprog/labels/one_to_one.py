"""Hard mappings: each target class owns the same number of source classes, and no source class serves two."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from attacks.errors import InputError

from .mapping import check_sources, check_temperature, with_temperature


def count_predictions(outputs: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How often each source class was predicted for samples of each target class, float, ``[sources, targets]``.

    Example:
        >>> count_predictions(torch.tensor([[0.0, 2.0], [3.0, 1.0]]), torch.tensor([1, 1]), 2)
        tensor([[0., 1.],
                [0., 1.]])
    """
    predicted = functional.one_hot(outputs.argmax(1), outputs.shape[1]).to(outputs.dtype)
    return predicted.T @ functional.one_hot(labels, classes).to(outputs.dtype)


def assign_greedily(scores: Tensor, per_class: int = 1) -> Tensor:
    """Give each target class ``per_class`` source classes, always taking the highest score that is left.

    The algorithm of Chen et al. (ILM-VP, CVPR 2023): take the largest entry, close its row, and close its column once
    the target class is full. Among equal scores the lowest source class wins, then the lowest target class.

    Args:
        scores: higher is better, finite, shape ``[sources, targets]``.
        per_class: source classes for each target class; at least 1.

    Returns:
        A matrix like ``scores`` whose columns hold ``1 / per_class`` at their sources and 0 elsewhere.

    Example:
        >>> assign_greedily(torch.tensor([[5.0, 4.0], [3.0, 1.0]]))
        tensor([[1., 0.],
                [0., 1.]])
    """
    left, matrix = scores.clone(), torch.zeros_like(scores)
    for _ in range(per_class * scores.shape[1]):
        source, target = divmod(int(left.argmax()), scores.shape[1])
        matrix[source, target] = 1 / per_class
        left[source] = -torch.inf
        if int((matrix[:, target] > 0).sum()) == per_class:
            left[:, target] = -torch.inf
    return matrix


@dataclass(frozen=True)
class OneToOne:
    """Settings that the hard mappings share.

    Attributes:
        per_class: source classes for each target class, whose outputs are averaged; at least 1.
        temperature: None averages their logits, a number above 0 their probabilities at that temperature; 1 takes the
            model's own.
    """

    per_class: int = 1
    temperature: float | None = None
    needs_classes: ClassVar[bool] = True
    each_epoch: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.per_class, int) or self.per_class < 1:
            raise InputError(
                f"per_class={self.per_class} is no number of source classes: give a whole number of at least 1."
            )
        check_temperature(self.temperature)

    def assign(self, scores: Tensor, name: str) -> dict[str, Tensor]:
        """The tensors for greedy pairs by scores ``[sources, targets]``; ``name`` is the mapping's, for the error."""
        check_sources(len(scores), scores.shape[1] * self.per_class, name)
        return with_temperature(assign_greedily(scores, self.per_class), self.temperature)


@dataclass(frozen=True)
class Random(OneToOne):
    """Source classes drawn at random, whatever the model predicts (RLM).

    Source: Elsayed et al., "Adversarial reprogramming of neural networks", ICLR 2019.

    Attributes:
        seed: seeds the draw.

    Example:
        >>> Random(seed=1).find(torch.zeros(1, 3), torch.tensor([0]), 2)["matrix"].sum(0)
        tensor([1., 1.])
    """

    seed: int = 0

    def find(self, outputs: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        """The draw; outputs and labels only say the sizes."""
        sources, needed = outputs.shape[1], classes * self.per_class
        check_sources(sources, needed, "random")
        order = torch.randperm(sources, generator=torch.Generator().manual_seed(self.seed))[:needed].to(outputs.device)
        matrix = outputs.new_zeros(sources, classes)
        matrix[order, torch.arange(needed, device=outputs.device) % classes] = 1 / self.per_class
        return with_temperature(matrix, self.temperature)


@dataclass(frozen=True)
class Frequency(OneToOne):
    """The source classes that the model predicts most often for each target class, found once, at the start (FLM).

    Source: Tsai, Chen and Ho, "Transfer learning without knowing", ICML 2020; greedy as in Chen et al., CVPR 2023.
    Target classes that were never seen get the lowest source classes that are left.

    Example:
        >>> outputs = torch.tensor([[0.0, 2.0, 1.0], [3.0, 1.0, 2.0]])
        >>> Frequency().find(outputs, torch.tensor([0, 1]), 2)["matrix"]
        tensor([[0., 1.],
                [1., 0.],
                [0., 0.]])
    """

    def find(self, outputs: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        """Greedy one-to-one assignment of the prediction counts."""
        return self.assign(count_predictions(outputs, labels, classes), "frequency")


@dataclass(frozen=True)
class Iterative(Frequency):
    """Like :class:`Frequency`, but found anew from every epoch's outputs (ILM).

    Source: Chen et al., "Understanding and improving visual prompting: a label-mapping perspective", CVPR 2023. Here an
    epoch's own training outputs are used instead of another pass over the data.

    Example:
        >>> Iterative().each_epoch
        True
    """

    each_epoch: ClassVar[bool] = True
