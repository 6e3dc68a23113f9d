"""The random squares of the Square attack: where they lie, and what they do to a perturbation.

Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search", ECCV 2020.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import fold

from ..engine import Perturbation, as_tensor
from ..engine.constraints import TINY


class Squares(ABC):
    """What a random search draws perturbations from, for images ``x`` of shape ``[n, channels, height, width]``."""

    def __init__(self, x: Tensor, perturbation: Perturbation, epsilon: float, generator: torch.Generator) -> None:
        self.x, self.perturbation, self.epsilon, self.generator = x, perturbation, epsilon, generator
        self.n, self.channels, self.height, self.width = x.shape

    @abstractmethod
    def start(self) -> Tensor:
        """The first perturbations, shaped as ``x``."""

    @abstractmethod
    def propose(self, p: Tensor, share: float) -> Tensor:
        """Perturbations that differ from ``p`` in squares, each of which covers this share of an image."""

    def draw(self, below: int, *shape: int) -> Tensor:
        """Whole numbers from 0 to below a number."""
        return torch.randint(below, shape, generator=self.generator, device=self.x.device)

    def places(self, side: int) -> Tensor:
        """A square in every image, the same in all channels: int64 places, shape ``[n, channels, side * side]``."""
        reach = torch.arange(side, device=self.x.device)
        rows = self.draw(self.height - side + 1, self.n, 1) + reach
        columns = self.draw(self.width - side + 1, self.n, 1) + reach
        places = rows[:, :, None] * self.width + columns[:, None, :]
        return places.reshape(self.n, 1, -1).expand(-1, self.channels, -1)

    def clipped(self, flat: Tensor) -> Tensor:
        """Perturbations of shape ``[n, channels, height * width]`` shaped as images, inside the bounds."""
        return as_tensor(self.perturbation.clip(self.x, flat.reshape(self.x.shape)))


class Corners(Squares):
    """In l-inf: every entry at one end of what ball and box allow; all of a square's, in one channel, at the same."""

    def __init__(self, x: Tensor, perturbation: Perturbation, epsilon: float, generator: torch.Generator) -> None:
        super().__init__(x, perturbation, epsilon, generator)
        full = torch.full_like(x, epsilon)
        self.high, self.low = self.clipped(full).flatten(2), self.clipped(-full).flatten(2)

    def start(self) -> Tensor:
        """Vertical stripes, one pixel wide."""
        up = self.draw(2, self.n, self.channels, 1, self.width).bool().expand_as(self.x)
        return torch.where(up.flatten(2), self.high, self.low).reshape(self.x.shape)

    def propose(self, p: Tensor, share: float) -> Tensor:
        """One square in every image."""
        side = max(round((share * self.height * self.width) ** 0.5), 1)
        places = self.places(min(side, self.height, self.width))
        up = self.draw(2, self.n, self.channels, 1).bool()
        ends = torch.where(up, self.high.gather(2, places), self.low.gather(2, places))
        return p.flatten(2).scatter(2, places, ends).reshape(p.shape)


class Pyramids(Squares):
    """In l2: a window takes another one's mass, and grows towards a pair of pyramids, one up and one down.

    When pooled, each channel of it takes the mass of all channels, and everything shrinks back into the ball.
    """

    def __init__(
        self,
        x: Tensor,
        perturbation: Perturbation,
        epsilon: float,
        generator: torch.Generator,
        pooled: bool = True,
    ) -> None:
        super().__init__(x, perturbation, epsilon, generator)
        self.pooled = pooled

    def start(self) -> Tensor:
        """Pairs of pyramids with random signs in a grid, five along the shorter side."""
        side = max(min(self.height, self.width) // 5, 2)
        down, across = self.height // side, self.width // side
        signs = self.draw(2, self.n, self.channels, 1, down * across) * 2 - 1
        tiles = signs * self.pairs(side, down * across).transpose(1, 2)[:, None]
        grid = fold(tiles.flatten(1, 2), (down * side, across * side), side, stride=side)
        p, top, left = torch.zeros_like(self.x), (self.height - down * side) // 2, (self.width - across * side) // 2
        p[:, :, top : top + down * side, left : left + across * side] = grid
        return self.clipped(self.epsilon * unit(p.flatten(2), (1, 2)))

    def propose(self, p: Tensor, share: float) -> Tensor:
        """One window gains and one loses in every image; so does, where the box took some, what the ball has left."""
        widest = min(self.height, self.width)
        side = max(round((share * self.height * self.width) ** 0.5), 3)
        side = min(side + (side + 1) % 2, widest - (widest + 1) % 2)  # odd
        gaining, losing, flat = self.places(side), self.places(side), p.flatten(2)
        unused = (self.epsilon**2 - flat.square().sum((1, 2), keepdim=True)).clamp_min(0) / self.channels
        kept, over = flat.scatter(2, losing, 0.0), (1, 2) if self.pooled else 2
        mass = flat.gather(2, losing).square().sum(over, True) + kept.gather(2, gaining).square().sum(over, True)
        signs = self.draw(2, self.n, self.channels, 1) * 2 - 1
        shape = unit(signs * self.pairs(side, 1) + unit(flat.gather(2, gaining), (2,)), (2,))
        moved = kept.scatter(2, gaining, shape * (mass + unused).sqrt())
        return self.clipped(self.epsilon * unit(moved, (1, 2)))

    def pairs(self, side: int, count: int) -> Tensor:
        """Pairs of pyramids of unit length, shape ``[n, count, side * side]``: one above the other, or side by side."""
        half = side // 2
        pair = unit(torch.cat([pyramid(half, side), -pyramid(side - half, side)]), (0, 1)).to(self.x)
        return torch.where(self.draw(2, self.n, count, 1).bool(), pair.T.flatten(), pair.flatten())


def unit(values: Tensor, dim: tuple[int, ...]) -> Tensor:
    """At length 1 over these dimensions; zeros stay."""
    return values / torch.linalg.vector_norm(values, dim=dim, keepdim=True).clamp_min(TINY)


def pyramid(height: int, width: int) -> Tensor:
    """Rings around the middle, each higher than the next one out (the paper's equation 2), shape ``[height, width]``.

    Example:
        >>> pyramid(3, 3)
        tensor([[0.2500, 0.2500, 0.2500],
                [0.2500, 1.2500, 0.2500],
                [0.2500, 0.2500, 0.2500]])
    """
    down, across = ((torch.arange(length) - length // 2).abs() for length in (height, width))
    heights = torch.arange(1, max(height, width) // 2 + 2).pow(-2.0).flip(0).cumsum(0).flip(0)
    return heights[torch.maximum(down[:, None], across)]
