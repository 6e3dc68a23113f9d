"""Perturbations one after another, in an order that belongs to each sample and may itself be searched.

Source: Hsiung et al., "Towards compositional adversarial robustness", CVPR 2023.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from attacks.errors import InputError

from .asks import Parameters
from .constraints import per_sample
from .perturbations import Perturbation, as_tensor


class Component(Perturbation, Protocol):
    """A perturbation with a name, whose parameters all lie in one interval: what a :class:`Mixture` is made of."""

    @property
    def name(self) -> str:
        """What it is called among the others."""
        ...

    @property
    def interval(self) -> tuple[float, float]:
        """The smallest and largest parameter."""
        ...


@dataclass(frozen=True)
class Mixture:
    """Components in turns, where each sample has its own order: the parameter ``order``, shape ``[n, turns, parts]``.

    It says with what share each part acts on a sample in each turn. A 1 among zeros is that part; several shares mix
    what the parts make, which is no input that a user could send but has a slope in the order itself. With no turns the
    sample stays as it is. The turns begin at the parameter ``image``, and no gradient goes back through it: one
    that has had its first turns need not have them again.

    Attributes:
        parts: the components; their parameters are named after them.

    Raises:
        InputError: for components that cannot be told apart by name.

    Example:
        >>> from attacks.engine import COMPONENTS
        >>> mixture, x = Mixture((COMPONENTS["contrast"], COMPONENTS["brightness"])), torch.full((1, 1, 1, 1), 0.5)
        >>> numbers = {"contrast": torch.tensor([[1.2]]), "brightness": torch.tensor([[0.1]])}
        >>> brighter_first = {"image": x, "order": torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), **numbers}
        >>> mixture(x, brighter_first).flatten()
        tensor([0.7200])
    """

    parts: tuple[Component, ...]
    shared: bool = False

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if len({*names, "image", "order"}) < len(names) + 2:
            raise InputError(
                f"The components are called {', '.join(map(repr, names))}, but each needs a name of its own, and "
                "neither 'image' nor 'order'."
            )

    def start(self, x: Tensor) -> dict[str, Tensor]:
        """The samples, no turns, and for each part what changes nothing."""
        numbers = {part.name: as_tensor(part.start(x)) for part in self.parts}
        return {"image": x, "order": x.new_zeros(len(x), 0, len(self.parts)), **numbers}

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The samples after all turns."""
        named = _named(parameters)
        image = named["image"].detach()
        for shares in named["order"].unbind(1):
            image = self._turn(image, shares, named)
        return image

    def clip(self, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        """The nearest parameters of each part, which know nothing of what the parts before it make of ``x``."""
        named = _named(parameters)
        return {**named, **{part.name: as_tensor(part.clip(x, named[part.name])) for part in self.parts}}

    def _turn(self, image: Tensor, shares: Tensor, named: dict[str, Tensor]) -> Tensor:
        acting = [
            (part, rows)
            for part, rows in zip(self.parts, [share.nonzero().squeeze(1) for share in shares.unbind(1)], strict=True)
            if len(rows)
        ]
        if sum(len(rows) for _, rows in acting) > len(image):
            made = torch.stack([part(image, named[part.name]) for part in self.parts], dim=1)
            return (made * per_sample(shares.flatten(), made.flatten(0, 1)).unflatten(0, shares.shape)).sum(1)
        if len(acting) == 1:
            return acting[0][0](image, named[acting[0][0].name])
        alone = [part(image[rows], named[part.name][rows]) for part, rows in acting]
        return torch.cat(alone)[torch.cat([rows for _, rows in acting]).argsort()]


def _named(parameters: Parameters) -> dict[str, Tensor]:
    if isinstance(parameters, Tensor):
        raise TypeError("A mixture has named tensors of parameters, not one tensor.")
    return parameters
