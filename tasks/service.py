"""A classifier that answers requests in the formats in which :class:`attacks.models.Endpoint` asks."""

import base64
import binascii
import io
import json
import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from attacks.engine import device_of, logits_of
from attacks.errors import InputError

Formats = Literal["all", "huggingface", "array"]

OFFERS = {
    "all": ["huggingface", "base64", "array"],
    "huggingface": ["huggingface"],
    "array": ["base64", "array"],
}
"""The formats of an endpoint that are answered, the one to use first."""

MOST_SAMPLES = 256
"""In one request."""

MOST_PIXELS = 2**24
"""Of an image file, looked up before it is unpacked."""

TOP_K = 5
"""Classes in an answer in the Hugging Face format, unless the request says how many."""


class Service:
    """Answers requests from a classifier, one after the other.

    Args:
        model: images in [0, 1], float32, shape ``[n, channels, h, w]``, to logits; put into evaluation mode.
        formats: what it answers: labels and scores (``huggingface``), logits (``array``), or ``all``.

    Attributes:
        queries: samples answered so far.

    Example:
        >>> service = Service(nn.Identity(), formats="array")
        >>> service.answer(b'{"inputs": [[0.5, 1.5]]}', "application/json")
        {'logits': [[0.5, 1.5]]}
    """

    def __init__(self, model: nn.Module, *, formats: Formats = "all") -> None:
        self.model = model.eval()
        self.formats = OFFERS[formats]
        self.queries = 0

    def health(self) -> dict[str, Any]:
        """What the service is: its model's name, classes and formats, the first of which is the one to use."""
        try:
            classes = getattr(self.model, "classes", None)
        except InputError:  # not known before the first batch
            classes = None
        names = getattr(self.model, "class_names", None)
        return {
            "status": "ok",
            "model": str(getattr(self.model, "name", type(self.model).__name__)),
            "formats": self.formats,
            "classes": classes,
            "class_names": names if names and len(set(names)) == len(names) else None,
        }

    def answer(self, content: bytes, kind: str) -> Any:
        """What JSON answers a request.

        Args:
            content: its body.
            kind: its media type: JSON, or else an image's.

        Raises:
            InputError: a request that cannot be answered, with a sentence.
        """
        request = _json(content) if kind.startswith("application/json") else {"inputs": content}
        inputs, parameters = request.get("inputs"), request.get("parameters") or {}
        if isinstance(inputs, bytes | str):
            if "huggingface" not in self.formats:
                raise InputError('This service takes arrays alone: send {"inputs": [...]}.')
            picture = inputs if isinstance(inputs, bytes) else _unpacked(inputs)
            return self._labels(self._logits(self._image(picture)), parameters)
        if "array" not in self.formats:
            raise InputError("This service takes images alone: send the bytes of a PNG file.")
        return {"logits": self._logits(_array(inputs)).tolist()}

    def _logits(self, inputs: Tensor) -> Tensor:
        if len(inputs) > MOST_SAMPLES:
            raise InputError(f"{len(inputs)} samples came, but one request takes {MOST_SAMPLES} at most: send fewer.")
        with torch.inference_mode():
            logits = logits_of(self.model, inputs.to(device_of(self.model, inputs))).cpu()
        if not bool(logits.isfinite().all()):
            raise ArithmeticError("the model answered with NaN or infinity")
        self.queries += len(inputs)
        return logits

    def _labels(self, logits: Tensor, parameters: Any) -> list[dict[str, Any]]:
        top_k = parameters.get("top_k", TOP_K) if isinstance(parameters, dict) else None
        if not isinstance(top_k, int) or top_k < 1 or parameters.get("function_to_apply", "softmax") != "softmax":
            raise InputError("parameters may hold top_k, at least 1, and function_to_apply, which must be softmax.")
        names = self.health()["class_names"] or [f"LABEL_{place}" for place in range(logits.shape[1])]
        best = logits[0].softmax(0).topk(min(top_k, logits.shape[1]))
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [{"label": names[place], "score": score} for score, place in pairs]

    def _image(self, content: bytes) -> Tensor:
        from PIL import Image, UnidentifiedImageError

        preprocessing = getattr(self.model, "preprocessing", None)
        try:
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP", "BMP")) as image:
                if math.prod(image.size) > MOST_PIXELS:
                    raise InputError(f"The image has {image.size} pixels: send one of at most {MOST_PIXELS} in all.")
                gray = image.mode in ("L", "1") if preprocessing is None else preprocessing.channels == 1
                pixels = np.array(image.convert("L" if gray else "RGB"))
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError("That is no PNG, JPEG, WebP or BMP image, or a damaged one.") from error
        return torch.from_numpy(pixels).view(1, *pixels.shape[:2], -1).permute(0, 3, 1, 2).float() / 255


def _json(content: bytes) -> dict[str, Any]:
    try:
        request = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The request is no JSON: {error}.") from error
    if not isinstance(request, dict) or "inputs" not in request:
        raise InputError('The request must be an object with "inputs": an image as base64, or an array.')
    return request


def _array(inputs: Any) -> Tensor:
    """Nested lists, or base64 of float32 with a shape, as a tensor of shape ``[n, ...]``."""
    try:
        if isinstance(inputs, dict):
            values = np.frombuffer(_unpacked(inputs["float32"]), "<f4").astype(np.float32)
            array = torch.from_numpy(values).view(inputs["shape"])
        else:
            array = torch.tensor(inputs, dtype=torch.float32)
    except (ValueError, TypeError, KeyError, RuntimeError, OverflowError, RecursionError) as error:
        raise InputError(
            'The "inputs" are no array: send equally long nested lists of numbers, or {"shape": [n, ...], "float32": '
            "base64 of little-endian numbers, as many as the shape says}."
        ) from error
    if array.dim() < 2 or not array.numel() or not bool(array.isfinite().all()):
        raise InputError(f"The inputs have shape {tuple(array.shape)}: send at least one sample, [n, ...], all finite.")
    return array


def _unpacked(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise InputError("The inputs are no base64.") from error
