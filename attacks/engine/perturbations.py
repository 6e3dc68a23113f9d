"""What parameters do to a sample: the part of a threat model that says which inputs can be made."""

from dataclasses import dataclass
from math import atanh
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from attacks.errors import InputError

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


@runtime_checkable
class Relative(Perturbation, Protocol):
    """A perturbation whose parameters and distances are in units of each sample's own: budgets in dB or in per cent."""

    def unit(self, x: Tensor) -> Tensor:
        """The size of a change that counts as a distance of 1, above 0, shape ``[n]``."""
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
class TanhBox:
    """``tanh`` of a free variable, stretched over the bounds: every value makes a valid input.

    Where ``tanh`` is flat, an entry hardly moves. With almost all of its range in use, as in the authors' code, what is
    at the bounds, the black and white of an image, stays there for hundreds of steps. The steeper middle of the range
    moves it as readily as the rest; there :meth:`clip` holds the variable where the bounds are.

    Source: Carlini and Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, section V.

    Attributes:
        bounds: the smallest and largest valid entry.
        reach: the part of the range (-1, 1) of ``tanh`` that is stretched over the bounds, in (0, 1); 0.999999 in the
            authors' code.

    Example:
        >>> x = torch.tensor([[0.2, 1.0]])
        >>> box = TanhBox()
        >>> torch.allclose(box(x, box.start(x)), x)
        True
    """

    bounds: tuple[float, float] = (0.0, 1.0)
    reach: float = 0.5
    shared: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.reach < 1:
            raise InputError(f"reach={self.reach!r} cannot be used: it must lie between 0 and 1, neither of them.")

    @property
    def _middle(self) -> float:
        return (self.bounds[0] + self.bounds[1]) / 2

    @property
    def _scale(self) -> float:
        return (self.bounds[1] - self.bounds[0]) / (2 * self.reach)

    def start(self, x: Tensor) -> Tensor:
        """The variable that makes the clean samples, up to rounding."""
        return self.clip(x, torch.atanh((x - self._middle) / self._scale) / self.reach)

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The inputs; the samples only say their shape."""
        return (as_tensor(parameters) * self.reach).tanh() * self._scale + self._middle

    def clip(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The nearest variable whose inputs are inside the bounds."""
        end = atanh(self.reach) / self.reach
        return as_tensor(parameters).clamp(-end, end)


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
