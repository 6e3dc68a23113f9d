"""A classifier behind HTTP, asked as any other model."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import EndpointError, InputError
from . import formats
from .address import public
from .loaded import check_range
from .transport import Transport

Format = Literal["huggingface", "array", "base64"]

UNTOLD = (
    "A service that does not say at /health which classes it has is held in Python: load_model(Endpoint(url, "
    "class_names=[...])), or load_model(url, classes=...) where its labels are LABEL_0, LABEL_1 and so on."
)


class Endpoint(nn.Module):
    """A classifier behind an HTTP address: images in, scores out, no gradients.

    Time-outs, broken connections, HTTP 429 and 5xx, and answers that are no JSON are tried again; everything else
    that is no proper answer is refused with a sentence. Hold it in :class:`~attacks.Access` to bound and remember what
    is asked, and in :func:`~attacks.models.load_model` to resize images and check their range first::

        endpoint = Endpoint("https://example.org/models/pets", class_names=["cat", "dog"],
                            headers={"Authorization": "Bearer $HF_TOKEN"})
        access = Access(load_model(endpoint), level="scores", budget=10_000, price=0.002, trace="runs/pets.trace")

    Args:
        url: http or https; plain http to another machine is warned of, and takes no headers.
        format: ``huggingface``: one PNG a request, answered with labels and scores; their logarithms are the logits.
            ``array``: a batch as nested lists, answered with logits. ``base64``: the same, the batch as bytes. See
            :mod:`attacks.models.formats`.
        class_names: in the order of the logits, spelled as the service does; no two alike.
        classes: how many there are, instead of names; the Hugging Face format needs one of the two, and without names
            expects labels such as ``LABEL_3``.
        top_k: how many classes to ask for, in the Hugging Face format; None: as many as the service chooses (often 5).
            The others share evenly what the listed scores leave.
        timeout: seconds to wait for the connection, for the answer to begin, and then for all of it.
        retries: attempts after the first one.
        backoff: seconds before the second attempt; twice as many before each further one, give or take a half. A
            service that says how long to wait is obeyed instead, up to two minutes.
        batch_size: samples in one request; the Hugging Face format has one.
        headers: sent with every request; ``$NAME`` stands for an environment variable. Never shown.
        name: for tables and traces; by default the address without its query.

    Attributes:
        request_size: samples in one request.

    Raises:
        InputError: an address, a format or a number that cannot be used, or class names that cannot.

    Example:
        >>> endpoint = Endpoint("http://127.0.0.1:9", classes=10, retries=0)
        >>> endpoint(torch.rand(1, 3, 8, 8))
        Traceback (most recent call last):
        ...
        attacks.errors.EndpointError: The endpoint http://127.0.0.1:9 could not be reached (...). Given up; it has \
cost 0 queries so far...
    """

    def __init__(
        self,
        url: str,
        *,
        format: Format = "huggingface",
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        top_k: int | None = None,
        timeout: float = 30.0,
        retries: int = 4,
        backoff: float = 0.5,
        batch_size: int = 32,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        if format not in get_args(Format):
            raise InputError(f"format={format!r} is not known: use one of {', '.join(map(repr, get_args(Format)))}.")
        if batch_size < 1 or (top_k is not None and top_k < 1):
            raise InputError(f"batch_size={batch_size} and top_k={top_k}: both must be at least 1.")
        self.format, self.top_k = format, top_k
        self.class_names = None if class_names is None else list(class_names)
        self.classes = _count(self.class_names, classes, format)
        self._places = {name: place for place, name in enumerate(self.class_names or [])}
        self._transport = Transport(url, headers=headers, timeout=timeout, retries=retries, backoff=backoff)
        self.name, self.source = name or self._transport.name, self._transport.name
        self.request_size = 1 if format == "huggingface" else batch_size
        known_by = json.dumps([self.name, format, top_k, self.class_names, self.classes]).encode()
        # Where weights would be hashed to tell models apart, this tells endpoints apart.
        digest = torch.tensor(list(hashlib.sha256(known_by).digest()), dtype=torch.uint8)
        self.register_buffer("known_by", digest, persistent=False)

    @property
    def queries(self) -> int:
        """Samples that the service may have worked on so far, those that had to be sent again included."""
        return self._transport.queries

    def forward(self, images: Tensor) -> Tensor:
        """Ask about inputs.

        Args:
            images: float32 in [0, 1], shape ``[n, 1 or 3, h, w]``; in the array formats any ``[n, ...]``.

        Returns:
            Logits, or logarithms of scores, float32, shape ``[n, classes]``, on the images' device.

        Raises:
            InputError: images that cannot be sent, or whose gradient is wanted; they were not sent.
            EndpointError: there was no proper answer; the sentence says why, and how many queries were spent.
        """
        if torch.is_grad_enabled() and images.requires_grad:
            raise InputError(
                f"{self.name} shows no gradients, but the inputs ask for them: use an attack that needs only scores or "
                "labels. These were not sent."
            )
        if self.format == "huggingface":
            self._check_images(images)
        parts = images.detach().cpu().float().split(self.request_size)
        return torch.cat([self._ask(part) for part in parts]).to(images.device)

    def _check_images(self, images: Tensor) -> None:
        if images.dim() != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
            raise InputError(
                f"The inputs have shape {tuple(images.shape)}, but {self.name} takes images, [n, 1 or 3, h, w]: "
                "reorder the axes, or use format='array'."
            )
        low, high = images.aminmax()
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # a resize before may overshoot by less, which is cut off
            check_range(images)

    def _ask(self, inputs: Tensor) -> Tensor:
        if self.format == "huggingface":
            request = formats.picture(inputs[0], self.top_k)
        else:
            request = formats.array(inputs, packed=self.format == "base64")
        answer = self._transport.post(*request, samples=len(inputs))
        try:
            if self.format == "huggingface":
                assert self.classes is not None  # the constructor saw to it
                return formats.log_scores(answer, self._places, self.classes)
            return formats.logits(answer, len(inputs), self.classes)
        except ValueError as error:
            raise self._transport.error(str(error)) from None


def _count(names: list[str] | None, classes: int | None, format: Format) -> int | None:
    if names is not None and (len(set(names)) != len(names) or len(names) < 2 or classes not in (None, len(names))):
        raise InputError(
            f"{len(names)} class names, {len(set(names))} different ones, for classes={classes}: give each class, at "
            "least two, a name of its own, and leave classes out."
        )
    if classes is not None and classes < 2:
        raise InputError(f"classes={classes}: a classifier tells at least two apart.")
    if names is None and classes is None and format == "huggingface":
        raise InputError("The labels of an endpoint cannot be put in order: give class_names, as it spells them.")
    return classes if names is None else len(names)


def connect(url: str, *, classes: int | None = None) -> Endpoint:
    """An endpoint with the format and the classes that it says itself at ``/health``, as ``repromark serve`` does.

    Args:
        url: its address.
        classes: how many there are: the endpoint is not asked, and its labels must be numbered.

    Raises:
        InputError: it does not say.
        EndpointError: it cannot be reached.
    """
    if classes is not None:
        return Endpoint(url, classes=classes)
    try:
        health = Transport(url).get("/health")
        formats = sorted(health["formats"], key=lambda name: name == "huggingface")  # a picture rounds to 8 bits
        return Endpoint(url, format=formats[0], class_names=health["class_names"], classes=health["classes"])
    except EndpointError as error:
        raise EndpointError(f"{error} {UNTOLD}") from error
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"The endpoint {public(url)} gave no proper answer at /health. {UNTOLD}") from error
