"""One way to hold any model: images in [0, 1] at natural size go in, logits come out, gradients flow back."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..engine import device_of
from ..engine.checks import TOLERANCE
from ..engine.frozen import frozen
from ..errors import InputError
from .preprocessing import Preprocessing, Size


class LoadedModel(nn.Module):
    """A classifier with its preprocessing inside; :func:`load_model` makes these.

    Every forward refuses images of a wrong type, shape or device. **Whether the values lie in [0, 1]** is looked at on
    the CPU in every forward, on an accelerator for the first batch only: there, each look makes the host wait for
    the device. The weights' ``requires_grad`` flags are left alone (see ``attacks.engine.frozen``).

    Args:
        network: takes prepared images, gives logits ``[n, classes]``, or an object that has them as ``.logits``.
        preprocessing: what happens to the images first; nothing by default, with three channels.
        name: for tables and reports.
        source: where it came from, in a form that :func:`load_model` understands where that is possible.
        classes: how many; None reads it off the first batch.
        class_names: in the order of the logits.
        revision: the exact version of ``source``, where it has one.
        forward_options: keywords for every call of the network.

    Example:
        >>> model = LoadedModel(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), name="tiny", source="tiny")
        >>> model(torch.rand(2, 3, 2, 2)).shape, model.classes
        (torch.Size([2, 5]), 5)
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing | None = None,
        *,
        name: str,
        source: str,
        classes: int | None = None,
        class_names: Sequence[str] | None = None,
        revision: str | None = None,
        forward_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing or Preprocessing()
        self.name = name
        self.source = source
        self.class_names = None if class_names is None else list(class_names)
        self.revision = revision
        self._classes = classes
        self._forward_options = forward_options or {}
        self._range_seen = False
        self.eval()

    @property
    def classes(self) -> int:
        """How many classes the logits stand for.

        Raises:
            InputError: not told when loading, and no batch has come through yet.
        """
        if self._classes is None:
            raise InputError(
                f"How many classes {self.name} has is not known before its first batch: say load_model(..., classes=)."
            )
        return self._classes

    @property
    def input_size(self) -> Size | None:
        """Height and width that reach the network; images of this size are not resized. None: any size does."""
        return self.preprocessing.input_size

    @property
    def device(self) -> torch.device:
        """Where the model is, and where images must be."""
        return self.preprocessing.mean.device

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: floating point in [0, 1] (1e-6 beyond is let through), shape ``[n, 3, h, w]``, or
                ``[n, 1, h, w]`` for a grey-level model; any size, see :class:`Preprocessing`.

        Returns:
            Logits, shape ``[n, classes]``, float32; float64 where the network answers so.

        Raises:
            InputError: images that are no such tensor, or a network that does not answer with such logits.
        """
        self._check_form(images)
        if images.device.type == "cpu" or not self._range_seen:
            check_range(images)
            self._range_seen = True
        prepared = self.preprocessing(images)
        weight = next(chain(self.network.parameters(), self.network.buffers()), prepared)
        dtype = weight.dtype if weight.is_floating_point() else prepared.dtype
        return self._logits(self.network(prepared.to(dtype), **self._forward_options), len(images))

    def _check_form(self, images: Tensor) -> None:
        channels = self.preprocessing.channels
        wanted = f"a floating-point tensor in [0, 1] of shape [n, {channels}, height, width]"
        if not isinstance(images, Tensor):
            raise InputError(
                f"The images are a {type(images).__name__} but must be {wanted}: convert them with "
                "torch.as_tensor, divide 8-bit values by 255, and move the channels to the front."
            )
        if not images.is_floating_point():
            raise InputError(f"The images are {images.dtype} but must be {wanted}: divide by 255.")
        if images.dim() != 4 or images.shape[1] != channels or 0 in images.shape:
            grey = " A grey-level model is loaded with mean=[0.0], std=[1.0]." if channels == 3 else ""
            raise InputError(
                f"The images have shape {tuple(images.shape)} but {self.name} takes {wanted}, none of them 0: "
                f"add the batch axis with images[None], or reorder the axes with images.permute.{grey}"
            )
        if images.device != self.device:
            raise InputError(
                f"The images are on {images.device} but {self.name} is on {self.device}: move them with "
                f"images.to({str(self.device)!r})."
            )

    def _logits(self, outputs: Any, n: int) -> Tensor:
        logits = getattr(outputs, "logits", outputs)
        if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != n:
            came = f"of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise InputError(
                f"{self.name} answered {n} images with outputs {came}, but a classifier answers with a tensor "
                f"[{n}, classes]: wrap the network in a module that returns only its logits."
            )
        if self._classes is None:
            self._classes = logits.shape[1]
        if logits.shape[1] != self._classes:
            raise InputError(
                f"{self.name} answered with {logits.shape[1]} logits but was loaded with classes={self._classes}: "
                "load it with the number that it has, or leave classes out."
            )
        return _at_least_float32(logits)

    def describe(self) -> dict[str, Any]:
        """What it takes to say which model this was, as plain values that JSON can hold.

        Where ``id`` names an embedded model, a hub id or a folder,
        ``load_model(d["id"], image_size=d["input_size"], revision=d["revision"])`` loads the same one again.
        """
        return {
            "id": self.source,
            "name": self.name,
            "revision": self.revision,
            "classes": self._classes,
            "input_size": self.input_size,
            "preprocessing": self.preprocessing.describe(),
        }


def _at_least_float32(logits: Tensor) -> Tensor:
    """Losses, counts and ties are decided on the logits: in half precision they would be inexact."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def check_range(images: Tensor) -> None:
    """Refuse images with values outside [0, 1], or that are no numbers.

    Raises:
        InputError: naming the values that came.

    Example:
        >>> check_range(torch.tensor([0.0, 255.0]))
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: The images' values lie in [0, 255] but must lie in [0, 1]: divide 8-bit values by \
255, and leave mean and std to the model.
    """
    low, high = (value.item() for value in images.detach().aminmax())
    if low >= -TOLERANCE and high <= 1 + TOLERANCE:
        return
    if low != low:
        raise InputError("The images contain NaN but must lie in [0, 1]: look for where the first one arises.")
    raise InputError(
        f"The images' values lie in [{low:g}, {high:g}] but must lie in [0, 1]: divide 8-bit values by 255, and leave "
        "mean and std to the model."
    )


def batched_logits(model: nn.Module, images: Tensor, *, batch_size: int = 128, progress: bool = False) -> Tensor:
    """All images' logits, computed batch by batch in evaluation mode and without gradients.

    Args:
        model: any module from images to logits ``[n, classes]``; its modes are as before afterwards.
        images: shape ``[n, ...]``, at least one, on any device: each batch is moved to the model.
        batch_size: images per forward pass, at least 1.
        progress: show a progress bar.

    Returns:
        Shape ``[n, classes]``, on the images' device, float32; float64 where the model answers so.

    Raises:
        InputError: no images, or a batch size below 1.

    Example:
        >>> batched_logits(nn.Flatten(), torch.zeros(5, 2, 2), batch_size=2).shape
        torch.Size([5, 4])
    """
    if batch_size < 1 or len(images) == 0:
        raise InputError(f"{len(images)} images in batches of {batch_size}: both must be at least 1.")
    device = device_of(model, images)
    with frozen(model), torch.no_grad():
        batches = tqdm(images.split(batch_size), disable=not progress, desc="logits", unit="batch")
        return torch.cat([_at_least_float32(model(batch.to(device)).to(images.device)) for batch in batches])
