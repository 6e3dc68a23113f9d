"""The trained mapping: a linear layer from all source classes to the target classes."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from attacks.errors import InputError


@dataclass(frozen=True)
class Linear:
    """A linear layer on the outputs, trained together with the program.

    It starts as the logistic regression on the outputs of the unchanged samples, so that training begins at a linear
    probe and not below it.

    It reads any numbers: logits of source classes, or the pooled output of an encoder, of any width.

    Source: the full mapping of Tsao et al., "AutoVP: an automated visual prompting framework", ICLR 2024; the start is
    our own.

    Attributes:
        penalty: weight of half the squared norm of the matrix (for outputs scaled to unit variance) beside the mean
            cross-entropy in that regression; above 0, larger is smoother.

    Example:
        >>> outputs = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> Linear().find(outputs, torch.tensor([0, 1]), 2)["matrix"].argmax(0)
        tensor([0, 1])
    """

    penalty: float = 1.0
    each_epoch: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.penalty < float("inf"):
            raise InputError(f"penalty={self.penalty} must be a finite number above 0.")

    def find(self, outputs: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        """The regularised logistic regression, as weights on the outputs as they come; also has a ``bias``."""
        centre, scale = outputs.mean(0), outputs.std(0, correction=0).clamp_min(1e-6)
        scaled = (outputs - centre) / scale
        weights = outputs.new_zeros(outputs.shape[1], classes, requires_grad=True)
        bias = outputs.new_zeros(classes, requires_grad=True)
        solver = torch.optim.LBFGS([weights, bias], max_iter=200, line_search_fn="strong_wolfe")

        def regret() -> Tensor:
            solver.zero_grad()
            loss = functional.cross_entropy(scaled @ weights + bias, labels)
            loss = loss + self.penalty / 2 * weights.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            solver.step(regret)
        matrix = weights.detach() / scale[:, None]
        return {"matrix": matrix, "bias": bias.detach() - centre @ matrix}
