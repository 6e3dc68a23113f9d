"""How a gradient is estimated from function values; :mod:`attacks.engine.estimation` puts it to work.

Every estimate here is a weighted sum of directions ``v``, each as long as the loss ``f`` is steep along it:

    weight * sum over v of [f(p + spread * v) - f(p - spread * v)] / (2 * spread) * v

With uncorrelated entries of variance 1 and one over the number of directions for a weight it is unbiased where ``f``
is linear. Papers differ in the directions: Gaussian (:func:`nes`), of one length (:func:`rgf`), signs (:func:`spsa`),
single entries (:func:`coordinate`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from attacks.errors import InputError

from .checks import check_amounts, check_counts

Draw = Callable[[int, int, int, int, torch.Generator], Iterator[Tensor]]
"""``draw(rows, samples, size, piece, generator)``: the directions, in pieces ``[rows, at most piece, size]``."""


class Decoder(Protocol):
    """A linear map from a small space, in which directions are drawn, to the one in which a method moves.

    Source: Tu et al., "AutoZOOM: autoencoder-based zeroth order optimization method", AAAI 2019: fewer directions make
    for a better estimate, and those that matter to a model of images are smooth. A user's own needs these two.
    """

    def small(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape, without the first dimension, of what is decoded to ``shape``, also without it."""
        ...

    def __call__(self, noise: Tensor, shape: Sequence[int]) -> Tensor:
        """``noise``, shape ``[k, ...small]``, decoded to ``[k, ...shape]``; linear in it."""
        ...


@dataclass(frozen=True)
class Upsampled:
    """The decoder that enlarges images bilinearly.

    Attributes:
        size: height and width of the small images, each at least 1.

    Example:
        >>> Upsampled((1, 2))(torch.tensor([[[[0.0, 1.0]]]]), (1, 1, 4))
        tensor([[[[0.0000, 0.2500, 0.7500, 1.0000]]]])
    """

    size: tuple[int, int]

    def __post_init__(self) -> None:
        check_counts(height=self.size[0], width=self.size[1])

    def small(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The same channels, at the small size."""
        if len(shape) != 3:
            raise InputError(f"Upsampled decodes images, but the parameters of a sample have shape {tuple(shape)}.")
        return (shape[0], *self.size)

    def __call__(self, noise: Tensor, shape: Sequence[int]) -> Tensor:
        """Images of shape ``[k, channels, *size]``, enlarged to ``[k, *shape]``."""
        return functional.interpolate(noise, size=tuple(shape[1:]), mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Estimator:
    """How gradients are estimated; made by :func:`nes`, :func:`rgf`, :func:`spsa`, :func:`spsa_gc`, :func:`coordinate`.

    Attributes:
        samples: directions in each estimate.
        spread: how far along a direction its probes lie, in the units of the parameters.
        draw: draws the directions.
        weight: of each direction in the sum; None: one over their number, for their mean.
        two_sided: whether a direction costs two probes, one on each side, or one to compare with the point itself.
        momentum: how much of the earlier estimates lives on in each.
        decoder: draws the directions in a small space; None: in that of the parameters.
    """

    samples: int
    spread: float
    draw: Draw
    weight: float | None = None
    two_sided: bool = True
    momentum: float = 0.0
    decoder: Decoder | None = None

    def __post_init__(self) -> None:
        check_counts(samples=self.samples)
        check_amounts(spread=self.spread, momentum=self.momentum)
        if self.spread == 0 or self.momentum >= 1:
            raise InputError(
                f"spread={self.spread} and momentum={self.momentum}: the spread must be above 0, the momentum below 1."
            )

    @property
    def queries(self) -> int:
        """Forward passes of an estimate, beside the one of the point itself."""
        return self.samples * (1 + self.two_sided)


def _independent(sample: Callable[[tuple[int, int, int], torch.Generator], Tensor]) -> Draw:
    def draw(rows: int, samples: int, size: int, piece: int, generator: torch.Generator) -> Iterator[Tensor]:
        for first in range(0, samples, piece):
            yield sample((rows, min(piece, samples - first), size), generator)

    return draw


def _normal(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _sphere(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    return functional.normalize(_normal(shape, generator), dim=2) * shape[2] ** 0.5


def _signs(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator, device=generator.device).float() * 2 - 1


def _entries(rows: int, samples: int, size: int, piece: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.rand(rows, size, generator=generator, device=generator.device)
    for chosen in order.topk(min(samples, size), dim=1).indices.split(piece, dim=1):
        yield order.new_zeros(*chosen.shape, size).scatter_(2, chosen[:, :, None], 1.0)


def nes(samples: int = 25, spread: float = 0.001, *, decoder: Decoder | None = None) -> Estimator:
    """Natural evolution strategies: Gaussian directions, each with its opposite.

    Unbiased for the gradient of the loss smoothed by a Gaussian of deviation ``spread``. Source: Ilyas et al.,
    "Black-box adversarial attacks with limited queries and information", ICML 2018, whose 50 queries are the default.

    Args:
        samples: directions in each estimate, two queries each; at least 1.
        spread: deviation of each entry of a probe, above 0.
        decoder: draws the directions in a small space.

    Raises:
        InputError: for settings out of range.

    Example:
        >>> nes(samples=10).queries
        20
    """
    return Estimator(samples, spread, _independent(_normal), decoder=decoder)


def rgf(
    samples: int = 50, spread: float = 0.001, *, two_sided: bool = False, decoder: Decoder | None = None
) -> Estimator:
    """Random gradient-free: directions of one length, each compared with the point itself.

    Unbiased for the gradient of the loss smoothed over a ball. Source: Nesterov and Spokoiny, "Random gradient-free
    minimization of convex functions", Found. Comput. Math. 2017, and, for unit directions with a factor of the
    dimension d, Tu et al., AAAI 2019. Here their length is the square root of d, which is the same estimate and makes
    ``spread`` comparable between the estimators: the probes lie ``spread * sqrt(d)`` away.

    Args:
        samples: directions in each estimate, one query each, or two; at least 1.
        spread: root mean square of a probe's entries, above 0.
        two_sided: query both ends of a direction, which cancels the loss's curvature.
        decoder: draws the directions in a small space.

    Raises:
        InputError: for settings out of range.

    Example:
        >>> rgf(samples=10).queries, rgf(samples=10, two_sided=True).queries
        (10, 20)
    """
    return Estimator(samples, spread, _independent(_sphere), two_sided=two_sided, decoder=decoder)


def spsa(samples: int = 25, spread: float = 0.01, *, decoder: Decoder | None = None) -> Estimator:
    """Simultaneous perturbation stochastic approximation: every entry moves by the same amount, up or down.

    Unbiased up to third derivatives. Sources: Spall, "Multivariate stochastic approximation using a simultaneous
    perturbation gradient approximation", IEEE TAC 1992; against networks Uesato et al., "Adversarial risk and the
    dangers of evaluating against weak attacks", ICML 2018, whose spread is the default.

    Args:
        samples: directions in each estimate, two queries each; at least 1.
        spread: by how much each entry of a probe moves, above 0.
        decoder: draws the directions in a small space.

    Raises:
        InputError: for settings out of range.

    Example:
        >>> spsa(samples=10).queries
        20
    """
    return Estimator(samples, spread, _independent(_signs), decoder=decoder)


def spsa_gc(
    samples: int = 5, spread: float = 0.01, *, momentum: float = 0.9, decoder: Decoder | None = None
) -> Estimator:
    """SPSA with gradient correction: :func:`spsa` with Nesterov's look-ahead.

    Every estimate ``g`` joins a velocity, ``v = momentum * v + g``, and ``g + momentum * v`` is handed on. Steps of one
    length down that are Nesterov's accelerated ones in which the points asked about are the points ahead, so it is a
    gradient no more, but what a plain descent should follow: give it to no method with a momentum of its own.
    Source: Oh et al., "BlackVIP: black-box visual prompting for robust transfer learning", CVPR 2023.

    Args:
        samples: directions in each estimate, two queries each; at least 1.
        spread: by how much each entry of a probe moves, above 0.
        momentum: how much of the velocity stays, in [0, 1).
        decoder: draws the directions in a small space.

    Raises:
        InputError: for settings out of range.

    Example:
        >>> spsa_gc().queries
        10
    """
    return Estimator(samples, spread, _independent(_signs), momentum=momentum, decoder=decoder)


def coordinate(samples: int = 128, spread: float = 0.001) -> Estimator:
    """Symmetric differences in some entries, drawn anew for each estimate without repetition; zero in all others.

    Exact for a quadratic loss where it is not zero; with ``samples`` of at least the number of entries, everywhere.
    Source: Chen et al., "ZOO: zeroth order optimization based black-box attacks to deep neural networks without
    training substitute models", AISec 2017.

    Args:
        samples: entries in each estimate, two queries each; at least 1.
        spread: by how much an entry moves, above 0; 0.0001 in the paper, which single precision blurs.

    Raises:
        InputError: for settings out of range.

    Example:
        >>> coordinate().queries
        256
    """
    return Estimator(samples, spread, _entries, weight=1.0)
