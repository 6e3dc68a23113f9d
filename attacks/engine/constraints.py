"""Norm balls: size, projection, steepest direction, dual norm, each per sample over all but the first dimension."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from attacks.errors import InputError

NormName = Literal["linf", "l2", "l1", "l0"]
TINY = 1e-12
SQUARABLE = 1e-12
"""Shorter gradients are scaled up before their entries are squared, which in float32 would lose them."""
BRACKETINGS = 60
"""At most so many steps to the threshold of an l1 projection; usually fewer than ten are taken."""


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Shape ``[n]`` values so that they multiply a tensor of shape ``[n, ...]``.

    Example:
        >>> per_sample(torch.zeros(3), torch.zeros(3, 2, 5)).shape
        torch.Size([3, 1, 1])
    """
    return values.reshape(-1, *[1] * (like.dim() - 1))


class Norm(ABC):
    """One norm, as the engine needs it. All methods are pure and work on any shape ``[n, ...]``."""

    name: NormName
    dual: str

    @abstractmethod
    def size(self, delta: Tensor) -> Tensor:
        """The norm of each sample's perturbation, shape ``[n]``."""

    @abstractmethod
    def project(self, delta: Tensor, epsilon: float | Tensor) -> Tensor:
        """argmin over ``|d| <= epsilon`` of the Euclidean distance to ``delta``; ``epsilon`` a number or ``[n]``."""

    def step(self, p: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """``p`` moved down the steepest direction by ``size`` in this norm, a number or one for each sample."""
        length = per_sample(size, p) if isinstance(size, Tensor) else torch.tensor(size, device=p.device, dtype=p.dtype)
        return torch.addcmul(p, self.steepest(gradient), length, value=-1)

    def project_box(self, delta: Tensor, epsilon: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Into the ball, then into the box ``low <= d <= high`` around 0: in l-inf and l1 the nearest point in both."""
        return self.project(delta, epsilon).clamp(low, high)

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """argmax over ``|d| <= 1`` of the inner product with ``gradient``; zero where the gradient is zero."""

    def dual_size(self, gradient: Tensor) -> Tensor:
        """The dual norm of each sample's gradient, shape ``[n]``: the slope along the steepest direction."""
        return (self.steepest(gradient) * gradient).flatten(1).sum(1)

    def grown(self, epsilon: Tensor, share: float) -> Tensor:
        """Radii that are larger by a share of themselves."""
        return epsilon * (1 + share)

    def shrunk(self, epsilon: Tensor, share: float) -> Tensor:
        """Radii that are smaller by a share of themselves."""
        return epsilon * (1 - share)

    def sphere(self, like: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """A random perturbation per sample of size ``epsilon``, shaped as ``like``: where Auto-PGD starts."""
        noise = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype) * 2 - 1
        return noise * per_sample(epsilon / self.size(noise).clamp_min(TINY), noise)

    def random(self, like: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """A random perturbation per sample inside the ball of radius ``epsilon``, shaped as ``like``."""
        noise = torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
        share = torch.rand(len(like), generator=generator, device=like.device, dtype=like.dtype)
        size = self.size(noise).clamp_min(TINY)
        return noise * per_sample(share * epsilon / size, noise)


def _radii(epsilon: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(epsilon, device=like.device, dtype=like.dtype).expand(len(like))


class Linf(Norm):
    """The largest change of any entry; its dual is l1."""

    name, dual = "linf", "l1"

    def size(self, delta: Tensor) -> Tensor:  # noqa: D102
        return delta.flatten(1).abs().amax(1)

    def project(self, delta: Tensor, epsilon: float | Tensor) -> Tensor:  # noqa: D102
        radius = per_sample(_radii(epsilon, delta), delta)
        return delta.clamp(-radius, radius)

    def steepest(self, gradient: Tensor) -> Tensor:  # noqa: D102
        return gradient.sign()

    def random(self, like: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """Uniform in the cube: the usual random start of PGD (Madry et al. 2018)."""
        return (torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype) * 2 - 1) * epsilon


class L2(Norm):
    """The Euclidean length; its own dual."""

    name, dual = "l2", "l2"

    def size(self, delta: Tensor) -> Tensor:  # noqa: D102
        return delta.flatten(1).norm(dim=1)

    def project(self, delta: Tensor, epsilon: float | Tensor) -> Tensor:  # noqa: D102
        factor = _radii(epsilon, delta) / self.size(delta).clamp_min(TINY)
        return delta * per_sample(factor.clamp_max(1), delta)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The gradient at unit length, however short it is: a sure model's may be far too small to be squared."""
        length = self.size(gradient)
        if bool((length < SQUARABLE).any()):
            peak = gradient.flatten(1).abs().amax(1)
            gradient = gradient / per_sample(torch.where(peak > 0, peak, 1), gradient)
            length = self.size(gradient)
        return gradient * per_sample(1 / torch.where(length > 0, length, 1), gradient)


class L1(Norm):
    """The sum of absolute changes; its dual is l-inf. Projection: Duchi et al., ICML 2008."""

    name, dual = "l1", "linf"

    def size(self, delta: Tensor) -> Tensor:  # noqa: D102
        return delta.flatten(1).abs().sum(1)

    def project(self, delta: Tensor, epsilon: float | Tensor) -> Tensor:  # noqa: D102
        far = torch.full_like(delta, torch.inf)
        return self.project_box(delta, epsilon, -far, far)

    def project_box(self, delta: Tensor, epsilon: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The nearest point of ball and box together: soft-thresholded, then capped (Croce and Hein, ICML 2021).

        The mass that is left falls piecewise linearly with the threshold. Newton's method, held inside a bracket, finds
        where exactly ``epsilon`` is left: far faster than sorting an image's entries.
        """
        magnitude, radius = delta.flatten(1).abs(), _radii(epsilon, delta)
        cap = torch.where(delta > 0, high, -low).flatten(1)
        lower, threshold, upper = torch.zeros_like(radius), torch.zeros_like(radius), magnitude.amax(1)
        for _ in range(BRACKETINGS):
            rest = magnitude - threshold[:, None]
            surplus = rest.clamp_min(0).minimum(cap).sum(1, dtype=torch.float64) - radius
            lower, upper = torch.where(surplus > 0, threshold, lower), torch.where(surplus > 0, upper, threshold)
            done = (surplus <= 1e-6 * radius) & ((surplus >= -1e-6 * radius) | (threshold == 0))
            if bool(done.all()):
                break
            falling = ((rest > 0) & (rest < cap)).sum(1)  # none of them on a plateau: then the bracket is halved
            newton = (threshold + surplus / falling).to(radius.dtype)
            better = torch.where((newton > lower) & (newton < upper), newton, (lower + upper) / 2)
            threshold = torch.where(done, threshold, better)
        left = (magnitude - threshold[:, None]).clamp_min(0).minimum(cap)
        left = left * (radius / left.sum(1).clamp_min(TINY)).clamp_max(1)[:, None]
        return (delta.flatten(1).sign() * left).reshape(delta.shape)

    def steepest(self, gradient: Tensor) -> Tensor:  # noqa: D102
        flat = gradient.flatten(1)
        largest = flat.abs().argmax(1, keepdim=True)
        return torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign()).reshape(gradient.shape)


class L0(Norm):
    """The number of entries that change. Not a norm and not convex: projection keeps the largest entries."""

    name, dual = "l0", "l0"

    def size(self, delta: Tensor) -> Tensor:  # noqa: D102
        return (delta.flatten(1) != 0).sum(1).to(delta.dtype)

    def project(self, delta: Tensor, epsilon: float | Tensor) -> Tensor:  # noqa: D102
        flat = delta.flatten(1)
        rank = flat.abs().argsort(dim=1, descending=True).argsort(dim=1)
        return torch.where(rank < _radii(epsilon, delta)[:, None].floor(), flat, 0).reshape(delta.shape)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The sign of the largest entry: one entry may change, by at most 1."""
        return NORMS["l1"].steepest(gradient)

    def grown(self, epsilon: Tensor, share: float) -> Tensor:
        """Larger by a share and by at least one entry."""
        return torch.maximum(epsilon + 1, super().grown(epsilon, share).floor())

    def shrunk(self, epsilon: Tensor, share: float) -> Tensor:
        """Smaller by a share and by at least one entry, down to none."""
        return torch.minimum(epsilon - 1, super().shrunk(epsilon, share).floor()).clamp_min(0)

    def random(self, like: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
        """Standard normal values in ``epsilon`` random entries."""
        return self.project(torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype), epsilon)


NORMS: dict[str, Norm] = {norm.name: norm for norm in (Linf(), L2(), L1(), L0())}


def get_norm(name: str) -> Norm:
    """The norm of that name: ``"linf"``, ``"l2"``, ``"l1"`` or ``"l0"``.

    Example:
        >>> get_norm("l2").size(torch.tensor([[3.0, 4.0]]))
        tensor([5.])
    """
    if name not in NORMS:
        raise InputError(f"norm={name!r} is not known: use one of {', '.join(map(repr, NORMS))}.")
    return NORMS[name]
