"""Perturbations beyond a norm ball: one number a sample moves a whole image.

Source of the intervals in :data:`COMPONENTS`, and of the idea of a chain: Hsiung et al., "Towards compositional
adversarial robustness", CVPR 2023.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, pi

import torch
from torch import Tensor

from attacks.errors import InputError

from .asks import Parameters
from .chains import Component
from .checks import check_amounts
from .colour import scale_contrast, scale_saturation, shift_brightness, shift_hue
from .perturbations import as_tensor
from .spatial import rotate


@dataclass(frozen=True)
class Semantic:
    """A map of images that one number a sample moves, inside an interval.

    Attributes:
        name: what it is called.
        apply: ``apply(images [n, channels, height, width], numbers [n, 1])``: images in [0, 1], differentiable.
        interval: the smallest and largest number.
        neutral: the number that changes nothing.
        colour: whether it needs three channels, red, green and blue.

    Raises:
        InputError: for an interval that is none.

    Example:
        >>> darker = Semantic("darker", shift_brightness, (-0.3, 0.0), 0.0)
        >>> x = torch.full((1, 1, 1, 1), 0.5)
        >>> float(darker(x, darker.clip(x, torch.tensor([[-0.4]]))))
        0.199...
    """

    name: str
    apply: Callable[[Tensor, Tensor], Tensor]
    interval: tuple[float, float]
    neutral: float
    colour: bool = False
    shared: bool = False

    def __post_init__(self) -> None:
        low, high = self.interval
        if not (isfinite(low) and isfinite(high) and low < high):
            raise InputError(
                f"interval={self.interval} cannot be used: give two finite numbers, the smaller one first."
            )

    def start(self, x: Tensor) -> Tensor:
        """The neutral number for each sample, shape ``[n, 1]``.

        Raises:
            InputError: for samples that are no images, or images without colours where the map needs them.
        """
        if x.dim() != 4:
            raise InputError(
                f"{self.name!r} changes images of shape [n, channels, height, width], but the samples have shape "
                f"{tuple(x.shape)}: use an attack inside a norm ball."
            )
        if self.colour and x.shape[1] != 3:
            raise InputError(
                f"{self.name!r} needs images with the three channels red, green and blue, but these have {x.shape[1]}: "
                "leave it out, or repeat the gray channel three times."
            )
        return x.new_full((len(x), 1), self.neutral)

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The changed images."""
        return self.apply(x, as_tensor(parameters))

    def clip(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The nearest numbers in the interval."""
        return as_tensor(parameters).clamp(*self.interval)


@dataclass(frozen=True)
class PixelNoise:
    """``x + p`` inside [0, 1], every entry of ``p`` between ``-epsilon`` and ``epsilon``: an l-inf ball as a component.

    The gradient passes as if nothing were cut off at 0 and 1, so that an entry which got there can come back.

    Attributes:
        epsilon: the largest change of an entry.

    Example:
        >>> noise, x = PixelNoise(0.1), torch.tensor([[0.95, 0.5]])
        >>> noise(x, noise.clip(x, torch.tensor([[0.3, -0.3]])))
        tensor([[1.0000, 0.4000]])
    """

    epsilon: float = 8 / 255
    name: str = "linf"
    shared: bool = False

    def __post_init__(self) -> None:
        check_amounts(epsilon=self.epsilon)

    @property
    def interval(self) -> tuple[float, float]:
        """The smallest and largest change of an entry."""
        return -self.epsilon, self.epsilon

    def start(self, x: Tensor) -> Tensor:
        """Zeros: nothing is changed."""
        return torch.zeros_like(x)

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """``x + p``, cut off at 0 and 1."""
        moved = x + as_tensor(parameters)
        return moved + (moved.clamp(0, 1) - moved).detach()

    def clip(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The nearest ``p`` in the ball."""
        return as_tensor(parameters).clamp(*self.interval)


COMPONENTS: dict[str, Semantic | PixelNoise] = {
    component.name: component
    for component in (
        Semantic("hue", shift_hue, (-pi, pi), 0.0, colour=True),
        Semantic("saturation", scale_saturation, (0.7, 1.3), 1.0, colour=True),
        Semantic("rotation", rotate, (-10.0, 10.0), 0.0),
        Semantic("brightness", shift_brightness, (-0.2, 0.2), 0.0),
        Semantic("contrast", scale_contrast, (0.7, 1.3), 1.0),
        PixelNoise(),
    )
}
"""The published components by name; :func:`dataclasses.replace` changes an interval."""


def get_components(components: Sequence[str | Component]) -> tuple[Component, ...]:
    """The components of these names, or those handed over.

    Raises:
        InputError: for a name that is not known, or none at all.

    Example:
        >>> [component.interval for component in get_components(["rotation", PixelNoise(0.1)])]
        [(-10.0, 10.0), (-0.1, 0.1)]
    """
    unknown = [name for name in components if isinstance(name, str) and name not in COMPONENTS]
    if unknown or not components or isinstance(components, str):
        raise InputError(
            f"{components!r} cannot be used: give a list with at least one of {', '.join(map(repr, COMPONENTS))}, or "
            "components of your own."
        )
    return tuple(COMPONENTS[one] if isinstance(one, str) else one for one in components)
