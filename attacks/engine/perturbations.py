"""What parameters do to a sample: the part of a threat model that says which inputs can be made."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .asks import Parameters


class Perturbation(Protocol):
    """How parameters turn clean samples into what is sent to the model.

    A user's own needs these four and no base class. ``shared`` says whether all samples have the same parameters (a
    universal perturbation, a patch, a reprogramming program) or each its own row.
    """

    @property
    def shared(self) -> bool:
        """Whether one set of parameters serves all samples."""
        ...

    def start(self, x: Tensor) -> Parameters:
        """The parameters that change nothing, or least, for samples of the shape of ``x``, ``[n, ...]``."""
        ...

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """What is sent to the model; differentiable in the parameters."""
        ...

    def clip(self, x: Tensor, parameters: Parameters) -> Parameters:
        """The nearest parameters that make only inputs which can exist."""
        ...


def as_tensor(parameters: Parameters) -> Tensor:
    """Parameters known to be one tensor, for perturbations that have no named parts."""
    if not isinstance(parameters, Tensor):
        raise TypeError("This perturbation has one tensor of parameters, not named ones.")
    return parameters


@dataclass(frozen=True)
class Additive:
    """``x + p`` for each sample, inside the bounds of valid inputs. The classic threat model.

    Attributes:
        bounds: the smallest and largest valid entry.

    Example:
        >>> x = torch.tensor([[0.9]])
        >>> Additive().clip(x, torch.tensor([[0.5]]))
        tensor([[0.1000]])
    """

    bounds: tuple[float, float] = (0.0, 1.0)
    shared: bool = False

    def start(self, x: Tensor) -> Tensor:
        """Zeros: the clean samples."""
        return torch.zeros_like(x)

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """``x + p``, not clamped, which would blind the gradient: clipped parameters keep it in the bounds."""
        return x + as_tensor(parameters)

    def clip(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The nearest ``p`` with ``x + p`` inside the bounds."""
        return (x + as_tensor(parameters)).clamp(*self.bounds) - x


@dataclass(frozen=True)
class Universal:
    """``clamp(x + p)`` with one ``p`` for all samples, shape ``[1, ...]``.

    Source: Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017.

    Attributes:
        bounds: the smallest and largest valid entry.

    Example:
        >>> x = torch.rand(4, 3, 2, 2)
        >>> perturbation = Universal()
        >>> perturbation(x, perturbation.start(x)).equal(x)
        True
    """

    bounds: tuple[float, float] = (0.0, 1.0)
    shared: bool = True

    def start(self, x: Tensor) -> Tensor:
        """Zeros of one sample's shape, with a leading 1."""
        return torch.zeros_like(x[:1])

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """``clamp(x + p)``: no single ``p`` can respect the bounds of every sample by itself."""
        return (x + as_tensor(parameters)).clamp(*self.bounds)

    def clip(self, x: Tensor, parameters: Parameters) -> Tensor:
        """Within the width of the bounds: beyond it no sample would change any further."""
        width = self.bounds[1] - self.bounds[0]
        return as_tensor(parameters).clamp(-width, width)
