"""One learned image that every sample weighs by a mask of its own (SMM)."""

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from attacks.engine import Parameters
from attacks.errors import InputError

from .image import AddedImage, check_blocks, named

WIDTHS = (8, 16, 32, 64, 128)
"""Channels of the mask network's layers, but for the last one's, which are the canvas's."""


@dataclass(frozen=True)
class SampleMask(AddedImage):
    """A learned image, ``canvas``, times a mask that a small network makes of each sample, is added to it.

    The mask has one value for each channel of each square of ``patch`` x ``patch`` pixels, and no bounds. Its network
    is of 3 x 3 convolutions, all but the last with batch normalisation and ReLU, and halves the sample until a square
    is a pixel. The canvas starts at zero and the network as torch starts its layers, drawn with the seed.

    The statistics of the batch normalisation are tensors of the program (see :class:`~reprog.inputs.Observing`): where
    they are given, a mask is its own sample's alone; without them, as in training, the batch is normalised by itself.

    Source: Cai et al., "Sample-specific masks for visual reprogramming-based prompting", ICML 2024 (SMM).

    Attributes:
        layers: of the mask network: 5, with 26,499 learned numbers, the paper's for convolutional models, or 6, with
            102,339, the paper's for vision transformers.
        patch: side of the squares in pixels: 1, 2, 4, 8 or 16, with 6 layers also 32; at least two must fill ``size``.

    Example:
        >>> program, x = SampleMask(size=16), torch.rand(2, 1, 8, 8)
        >>> sum(tensor.numel() for name, tensor in program.start(x).items() if name not in program.observed)
        27267
    """

    layers: int = 5
    patch: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers not in (5, 6):
            raise InputError(f"layers={self.layers} is no mask network of the paper: choose 5 or 6.")
        check_blocks(self.size, self.patch)
        if self.patch.bit_count() != 1 or self._halvings >= self.layers:
            raise InputError(
                f"patch={self.patch} is not what {self.layers} layers can make: choose 1, 2, 4, 8, 16 or, with 6, 32."
            )

    @property
    def _halvings(self) -> int:
        return self.patch.bit_length() - 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors' shapes, by name; those of the layers end in their number, counted from 0."""
        shapes = super().shapes
        widths = (self.channels, *WIDTHS[: self.layers - 1], self.channels)
        for layer, (seen, made) in enumerate(pairwise(widths)):
            shapes |= {f"weight_{layer}": (made, seen, 3, 3), f"bias_{layer}": (made,)}
            if layer < self.layers - 1:
                shapes |= {f"{kind}_{layer}": (made,) for kind in ("gain", "shift", "mean", "variance")}
        return shapes

    @property
    def observed(self) -> tuple[str, ...]:
        """The tensors that no gradient moves: the batch normalisation's statistics."""
        return tuple(name for name in self.shapes if name.startswith(("mean_", "variance_")))

    def start(self, x: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
        """A canvas of zero and a network drawn with the seed, on the device of the samples ``x``."""
        generator, tensors = torch.Generator().manual_seed(seed), super().start(x)
        for layer in range(self.layers):
            reach = 1 / sqrt(tensors[f"weight_{layer}"][0].numel())
            for name in (f"weight_{layer}", f"bias_{layer}"):
                tensors[name].copy_(reach * (2 * torch.rand(self.shapes[name], generator=generator) - 1))
        ones = (name for name in tensors if name.startswith(("gain_", "variance_")))
        return tensors | {name: torch.ones_like(tensors[name]) for name in ones}

    def picture(self, sample: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """The canvas under each sample's mask, shape ``[n, channels, size, size]``."""
        return tensors["canvas"] * self._mask(sample, tensors, training="mean_0" not in tensors)

    @torch.no_grad()
    def observe(self, x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        """The statistics after these samples: a tenth of the way from what they were to the batch's."""
        tensors = named(parameters)
        running = {name: tensors[name].clone() for name in self.observed}
        self._mask(self.fit_to(x, self.size), tensors | running, training=True)
        return running

    def _mask(self, sample: Tensor, tensors: dict[str, Tensor], *, training: bool) -> Tensor:
        """Each sample's mask, as large as it; in training, statistics that are given are moved in place."""
        for layer in range(self.layers):
            own = {name: tensors.get(f"{name}_{layer}") for name in ("gain", "shift", "mean", "variance")}
            sample = functional.conv2d(sample, tensors[f"weight_{layer}"], tensors[f"bias_{layer}"], padding=1)
            if layer < self.layers - 1:
                sample = functional.batch_norm(
                    sample, own["mean"], own["variance"], own["gain"], own["shift"], training=training
                ).relu()
            if layer < self._halvings:
                sample = functional.max_pool2d(sample, 2)
        return functional.interpolate(sample, (self.size, self.size), mode="nearest")
