"""One function that loads any image classifier."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..engine import device_of
from ..errors import InputError
from .embedded import EMBEDDED, load_embedded
from .endpoint import Endpoint, connect
from .huggingface import load_huggingface
from .loaded import LoadedModel
from .preprocessing import Preprocessing, Size, as_size

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

ALLOWED = (
    f"an embedded model ({', '.join(EMBEDDED)}), a Hugging Face hub id such as google/vit-base-patch16-224, a local "
    "folder that save_pretrained wrote, the http(s) address of a service, or a torch module"
)


def load_model(
    source: str | Path | nn.Module,
    *,
    device: str | None = None,
    image_size: int | Sequence[int] | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    name: str | None = None,
    revision: str | None = None,
) -> LoadedModel:
    """Load an image classifier, in evaluation mode, with its preprocessing inside.

    What comes back takes images in [0, 1] at their natural size and gives logits; gradients reach the images. Images
    that have exactly the model's ``input_size`` are not resized or cropped.

    Args:
        source: ``"efficientnet-lite0"`` (extra ``demo``), a local folder that ``save_pretrained`` wrote, a Hugging
            Face hub id (taken for one where no such folder exists), the http(s) address of a service (see
            :class:`Endpoint`), or a torch module from images to logits. A module is wrapped, not copied; a
            :class:`LoadedModel` comes back as it is.
        device: such as ``"cpu"`` or ``"cuda"``. By default a torch module stays where it is and all else goes to the
            CPU.
        image_size: the side of the network's square input in pixels, or (height, width); the model's own by default.
            Another size scales the model's own pipeline. A torch module has none of its own: without this, images
            reach it at their natural size; with it, those of other sizes are resized (bicubic).
        classes: of a torch module; read off its first batch by default. Of a service that does not say it itself.
        mean: of a torch module, per channel on the [0, 1] scale; 0 by default. One number makes it a grey-level
            model.
        std: of a torch module, likewise; 1 by default.
        name: for tables and reports; the id, folder or class name by default.
        revision: of a hub id: a branch, tag or commit.

    Raises:
        InputError: a source that is none of these or cannot be used, an argument that does not belong to it, or a
            device that is not there; the sentence says what is allowed and what to do.

    Example:
        >>> model = load_model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10)), image_size=8, name="linear")
        >>> model(torch.rand(2, 3, 20, 30)).shape
        torch.Size([2, 10])
    """
    size = None if image_size is None else as_size(image_size)
    own = {"classes": classes, "mean": mean, "std": std}
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        source = connect(source, classes=classes)
    if isinstance(source, LoadedModel):
        _refuse("a loaded model", own | {"image_size": size, "name": name, "revision": revision})
        model = source
    elif isinstance(source, nn.Module):
        _refuse("a torch module", {"revision": revision})
        model = _wrap(source, size, classes, mean, std)
    elif isinstance(source, str | Path):
        _refuse(f"the model {source}", own)
        model = _by_id(str(source), size, revision)
    else:
        raise InputError(f"A model cannot be loaded from a {type(source).__name__}: give {ALLOWED}.")
    if name is not None:
        model.name = name
    return model if device is None else model.to(_device(device))


def _refuse(what: str, arguments: dict[str, Any]) -> None:
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise InputError(f"{given[0]}= does not go with {what}, which brings its own or has none: leave it out.")


def _by_id(source: str, size: Size | None, revision: str | None) -> LoadedModel:
    if source in EMBEDDED:
        _refuse("an embedded model", {"revision": revision})
        return load_embedded(source, image_size=size)
    place = Path(source).expanduser()
    if place.is_dir():
        _refuse("a local folder", {"revision": revision})
    elif place.exists():
        raise InputError(f"{source} is a file and no folder with a model: give {ALLOWED}.")
    elif not HUB_ID.fullmatch(source):
        raise InputError(f"There is no model {source!r}, and no folder of that name: give {ALLOWED}.")
    return load_huggingface(source, image_size=size, revision=revision)


def _wrap(
    module: nn.Module,
    size: Size | None,
    classes: int | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> LoadedModel:
    channels = len(mean or std or [0.0] * 3)
    preprocessing = Preprocessing(mean=mean or [0.0] * channels, std=std or [1.0] * channels, resize=size)
    preprocessing.to(device_of(module))
    if isinstance(module, Endpoint):
        return LoadedModel(
            module,
            preprocessing,
            name=module.name,
            source=module.source,
            classes=classes or module.classes,
            class_names=module.class_names,
        )
    kind = type(module).__name__
    return LoadedModel(module, preprocessing, name=kind, source=f"torch:{kind}", classes=classes)


def _device(device: str) -> torch.device:
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        there = ["cpu"]
        if torch.cuda.is_available():
            there += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            there.append("mps")
        raise InputError(f"device={device!r} is not there: this machine has {', '.join(there)}.") from error
    return wanted
