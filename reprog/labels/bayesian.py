"""Soft mappings from the statistics of the model's predictions: every source class speaks for several targets."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from attacks.errors import InputError

from .one_to_one import count_predictions


def normalise_counts(counts: Tensor, smoothing: float) -> Tensor:
    """``p(target | source)``, smoothed, with each target's column scaled to sum to 1.

    A target class without any count gets equal weights, so that its logit is the mean output.

    Args:
        counts: how often, or how strongly, source and target class came together; at least 0, ``[sources, targets]``.
        smoothing: added to every source class's total (Laplace smoothing); above 0.

    Example:
        >>> normalise_counts(torch.tensor([[3.0, 0.0], [1.0, 0.0]]), smoothing=1.0)
        tensor([[0.6000, 0.5000],
                [0.4000, 0.5000]])
    """
    given = counts / (counts.sum(1, keepdim=True) + smoothing)
    total = given.sum(0, keepdim=True)
    return torch.where(total > 0, given / total.where(total > 0, 1.0), 1 / len(counts))


@dataclass(frozen=True)
class Bayesian:
    """Weights in proportion to ``p(target | predicted source)``, found anew from every epoch's outputs (BLM).

    Source: Cai et al., "Bayesian-guided label mapping for visual reprogramming", NeurIPS 2024; the edition that reuses
    the outputs of the epoch before.

    Attributes:
        smoothing: Laplace smoothing, above 0 (at 0 a source class that is never predicted has no distribution).

    Example:
        >>> outputs = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> Bayesian().find(outputs, torch.tensor([0, 1, 1]), 2)["matrix"]
        tensor([[1.0000, 0.4000],
                [0.0000, 0.6000]])
    """

    smoothing: float = 1.0
    needs_classes: ClassVar[bool] = True
    each_epoch: ClassVar[bool] = True
    learns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.smoothing < float("inf"):
            raise InputError(f"smoothing={self.smoothing} must be a finite number above 0; the paper uses 1.")

    def find(self, outputs: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        """The smoothed conditional distribution of the predictions' counts."""
        return {"matrix": normalise_counts(count_predictions(outputs, labels, classes), self.smoothing)}


@dataclass(frozen=True)
class BayesianPlus(Bayesian):
    """Like :class:`Bayesian`, but counting the probabilities of the most likely source classes (BLM+).

    Attributes:
        top_share: how many source classes of each sample count, as a share of the number of *target* classes, as in the
            paper; above 0. At least one always counts.

    Example:
        >>> BayesianPlus().find(torch.tensor([[0.0, 2.0]]), torch.tensor([0]), 2)["matrix"][:, 0]
        tensor([0., 1.])
    """

    top_share: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.top_share < float("inf"):
            raise InputError(f"top_share={self.top_share} must be a finite number above 0; the paper uses 0.15.")

    def find(self, outputs: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        """The same distribution from soft counts."""
        kept = min(max(1, int(self.top_share * classes)), outputs.shape[1])
        likely, sources = outputs.softmax(1).topk(kept, dim=1)
        strength = torch.zeros_like(outputs).scatter(1, sources, likely)
        counts = strength.T @ functional.one_hot(labels, classes).to(outputs.dtype)
        return {"matrix": normalise_counts(counts, self.smoothing)}
