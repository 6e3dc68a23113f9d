"""Bare passes of a network: what no attack can do without."""

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time

import torch
from torch import Tensor, nn
from torch.nn import functional

clock = process_time
"""The processor's time of this process. It has one thread, so on an idle machine that is the time that passes, and on
a busy one the work of others does not count."""


@dataclass(frozen=True)
class Floor:
    """What bare passes of all samples cost, in seconds.

    Attributes:
        forward: one forward pass.
        both: one forward and one backward pass.
    """

    forward: float
    both: float

    def of(self, forward: float, backward: float) -> float:
        """Seconds for so many passes.

        Example:
            >>> Floor(forward=1.0, both=3.0).of(10, 4)
            18.0
        """
        return backward * self.both + (forward - backward) * self.forward


@torch.no_grad()
def forward(model: nn.Module, x: Tensor) -> None:
    """One forward pass."""
    model(x)


def both(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    """One forward pass, and the gradient of the cross-entropy in the input."""
    x = x.detach().requires_grad_()
    torch.autograd.grad(functional.cross_entropy(model(x), labels, reduction="sum"), x)


def floor(model: nn.Module, x: Tensor, labels: Tensor, seconds: float) -> Floor:
    """Time bare passes for about so many seconds, at least one of each kind."""
    spent, passes = [0.0, 0.0], 0
    while not passes or sum(spent) < seconds:
        spent[0] += timed(lambda: forward(model, x))
        spent[1] += timed(lambda: both(model, x, labels))
        passes += 1
    return Floor(spent[0] / passes, spent[1] / passes)


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    began = clock()
    work()
    return clock() - began
