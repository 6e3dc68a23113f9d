"""AutoZOOM: Carlini and Wagner's l2 attack from scores alone, in a small space that is decoded to changes of images.

Tu et al., "AutoZOOM: autoencoder-based zeroth order optimization method for attacking black-box neural networks", AAAI
2019.
"""

from dataclasses import dataclass
from functools import partial
from typing import Unpack

from torch import Tensor, nn

from ..engine import (
    AttackResult,
    Parameters,
    RunOptions,
    as_tensor,
    get_norm,
    run,
)
from ..engine.estimation import by_queries
from ..engine.estimators import Decoder, Upsampled, rgf
from .carlini_wagner import adam, smallest_change
from .search import check_search, span


@dataclass(frozen=True)
class Decoded:
    """``clamp(x + decoder(p))``: a change of each sample that is decoded from few parameters.

    Attributes:
        decoder: from these few to a sample's shape.
        bounds: the smallest and largest valid entry.
    """

    decoder: Decoder
    bounds: tuple[float, float] = (0.0, 1.0)
    shared: bool = False

    def start(self, x: Tensor) -> Tensor:
        """Zeros: the clean samples."""
        return x.new_zeros(len(x), *self.decoder.small(x.shape[1:]))

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The inputs; that some entries are clamped does not matter to queries."""
        return (x + self.decoder(as_tensor(parameters), x.shape[1:])).clamp(*self.bounds)

    def clip(self, x: Tensor, parameters: Parameters) -> Tensor:
        """All parameters make valid inputs."""
        return as_tensor(parameters)


def autozoom(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    decoder: Decoder = Upsampled((8, 8)),
    search_steps: int = 1,
    steps: int = 1000,
    step_size: float | None = None,
    initial_c: float | None = None,
    samples: int = 1,
    spread: float | None = None,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Find a small, smooth change of each sample from scores, by Adam's steps along random directions of a small space.

    A step looks at a point and at one neighbour along each of ``samples`` directions, and their mean stands for the
    gradient. It goes on from its first success to smaller changes; ``stop=True`` ends it there. The number of
    directions stays the same, where the paper begins with one and takes more after the first success.

    Args:
        model: maps inputs to scores, shape ``[n, classes]``; they need no gradient.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said); images for the decoder
            that is used unless another is given.
        labels: their classes, int64, shape ``[n]``.
        decoder: from the small space to changes of a sample, such as :class:`Upsampled` (the paper's AutoZOOM-BiLIN) or
            the second half of an autoencoder (AutoZOOM-AE).
        search_steps: constants tried for each sample, at least 1.
        steps: steps for each of them, at least 1. An attempt ends when a tenth of them gains less than 0.01 %.
        step_size: of Adam, in the small space; 0.01 times the width of the bounds unless given.
        initial_c: the first constant between the shortfall and the squared change, above 0; 10 times the squared width
            of the bounds unless given.
        samples: directions in a step, at least 1: more of them, more queries and smaller changes.
        spread: how far a neighbour lies in each dimension of the small space, above 0; 0.01 times the width of the
            bounds unless given.
        **options: the settings of :func:`attacks.run`: targets, bounds, stop, restarts, budget, batch_size, levels,
            seed, generator, progress.

    Returns:
        What was found, with l2 distances; :meth:`AttackResult.at` says what of it counts within a radius.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten())  # says which of two channels is brighter
        >>> x, labels = torch.full((1, 2, 8, 8), 0.5), torch.tensor([0])
        >>> x[:, 0] += 0.1
        >>> result = autozoom(model, x, labels, decoder=Upsampled((2, 2)), stop=True)
        >>> result.success, bool(result.forward_passes < 100), result.backward_passes
        (tensor([True]), True, tensor([0]))
    """
    check_search(search_steps=search_steps, steps=steps, step_size=step_size, initial_c=initial_c)
    bounds, width = options.get("bounds", (0.0, 1.0)), span(options)
    method = partial(
        smallest_change,
        targets=options.get("targets"),
        optimizer=adam,
        search_steps=search_steps,
        steps=steps,
        step_size=0.01 * width if step_size is None else step_size,
        initial_c=10 * width**2 if initial_c is None else initial_c,
    )
    attack = by_queries(method, rgf(samples, 0.01 * width if spread is None else spread))
    return run(
        attack, model, x, labels, norm="l2", perturbation=Decoded(decoder, bounds), rank=get_norm("l2").size, **options
    )
