"""Image classifiers from the Hugging Face hub or a folder, with their own image processor made differentiable."""

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import InputError
from .checkpoints import Checkpoint, Kind, class_names, first_line
from .loaded import LoadedModel
from .preprocessing import Preprocessing, Size

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

IMAGES = Kind(
    name="an image classifier",
    task="image classification",
    auto="AutoModelForImageClassification",
    architectures="MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    reader="AutoImageProcessor",
    prepares="image processor",
    file="preprocessor_config.json",
    files="*processor_config.json",
)

RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters, as processors write them, that :class:`Preprocessing` has."""

STEPS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order"}
"""The steps of a processor that are rebuilt here."""

HARMLESS = {"do_convert_rgb", "do_reduce_labels"}
"""Steps that do nothing to an RGB image."""

WARP_FROM = 384
"""ConvNeXt's processor squeezes the image into a square, without a crop, from this side on."""


def load_huggingface(source: str, *, image_size: Size | None = None, revision: str | None = None) -> LoadedModel:
    """Load a Hugging Face image classifier; only safetensors are read and no code of the repository is run.

    Without network, set ``HF_HUB_OFFLINE=1``: models that were downloaded before then load from the cache.

    Args:
        source: a local folder as ``save_pretrained`` writes it, or a hub id.
        image_size: another input size, for networks that allow it. Transformers that can interpolate their position
            embeddings are asked to.
        revision: a branch, tag or commit of the hub's repository.

    Raises:
        InputError: nothing there, no safetensors weights, no classification head, a processor that cannot be rebuilt,
            or a network that does not run at the size; the sentence says what to do.
    """
    checkpoint = Checkpoint(source, IMAGES, revision)
    checkpoint.check_folder()
    with checkpoint.quiet():
        config = checkpoint.config()
        network = checkpoint.network(config)
        otherwise = "load the network yourself and hand it to load_model with image_size, mean and std"
        preprocessing = rebuild(checkpoint.reader(otherwise), source)
    options = {}
    if image_size not in (None, preprocessing.input_size):
        preprocessing = preprocessing.at(image_size)
        if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
            options["interpolate_pos_encoding"] = True
    model = LoadedModel(
        network,
        preprocessing,
        name=checkpoint.name,
        source=source,
        classes=config.num_labels,
        class_names=class_names(config.id2label),
        revision=getattr(config, "_commit_hash", None),
        forward_options=options,
    )
    _try_out(model)
    return model


def rebuild(processor: "BaseImageProcessor", source: str) -> Preprocessing:
    """A processor's preprocessing, differentiable, and compared with the processor itself on one image.

    Raises:
        InputError: steps, filters or sizes that have no counterpart here, or another result on the image.
    """
    settings = processor.to_dict()
    odd = [key for key, value in settings.items() if key.startswith("do_") and value and key not in STEPS | HARMLESS]
    if odd:
        raise _unlike(source, f"its step {odd[0]} has no differentiable counterpart here")
    resize, crop = _sizes(settings, source)
    mean, std = _affine(settings)
    resample = settings["resample"] if resize is not None else 3
    if resample not in RESAMPLE:
        raise _unlike(source, f"its filter is Pillow's number {resample}; allowed are {RESAMPLE}")
    preprocessing = Preprocessing(
        mean=mean,
        std=std,
        resize=resize,
        crop=crop,
        interpolation=RESAMPLE[resample],
        reverse_channels=bool(settings.get("do_flip_channel_order")),
    )
    _compare(preprocessing, processor, source)
    return preprocessing


def _unlike(source: str, why: str) -> InputError:
    return InputError(
        f"The image processor of {source} cannot be rebuilt: {why}. Load the network with transformers and hand it to "
        "load_model as a torch module with image_size, mean and std."
    )


def _sizes(settings: dict[str, Any], source: str) -> tuple[int | Size | None, Size | None]:
    """What to resize to and what to cut out, in the words of :class:`Preprocessing`."""
    resize: int | Size | None = None
    crop: Size | None = None
    if settings.get("do_resize"):
        size = {key: value for key, value in settings["size"].items() if value is not None}
        if size.keys() == {"height", "width"}:
            resize = (size["height"], size["width"])
        elif size.keys() == {"shortest_edge"}:
            resize = size["shortest_edge"]
        else:
            raise _unlike(source, f"its size {size} has neither just height and width nor just shortest_edge")
        if isinstance(resize, int) and settings.get("crop_pct"):
            if resize >= WARP_FROM:
                resize = (resize, resize)
            else:
                resize, crop = int(resize / settings["crop_pct"]), (resize, resize)
    if settings.get("do_center_crop"):
        crop = (settings["crop_size"]["height"], settings["crop_size"]["width"])
    return resize, crop


def _affine(settings: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Rescaling, EfficientNet's offset and both of its normalisations as one mean and std on the [0, 1] scale."""
    scale = 255 * (settings["rescale_factor"] if settings.get("do_rescale") else 1.0)
    offset = 1.0 if settings.get("rescale_offset") else 0.0
    normalise = settings.get("do_normalize")
    means = settings["image_mean"] if normalise else [0.0] * 3
    stds = settings["image_std"] if normalise else [1.0] * 3
    again = settings["image_std"] if settings.get("include_top") else [1.0] * len(stds)
    mean = [(value + offset) / scale for value in means]
    return mean, [first * second / scale for first, second in zip(stds, again, strict=True)]


def _compare(preprocessing: Preprocessing, processor: "BaseImageProcessor", source: str) -> None:
    """Refuse a pipeline that differs from the processor by more than the rounding of 8-bit resizing."""
    height, width = preprocessing.input_size or (64, 64)
    shape = (preprocessing.channels, int(1.4 * height) + 3, int(1.7 * width) + 5)
    # Mid-range values: Pillow clips between its two passes, which is no difference of the pipelines.
    pixels = np.random.default_rng(0).integers(64, 192, shape, dtype=np.uint8)
    theirs = processor(pixels, input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    ours = preprocessing(torch.from_numpy(pixels)[None] / 255)
    if theirs.shape != ours.shape:
        raise _unlike(source, f"it gives {tuple(theirs.shape)} where its settings say {tuple(ours.shape)}")
    worst = ((ours - theirs) * preprocessing.std).abs().max().item() * 255
    if worst > 2:
        raise _unlike(source, f"its result differs by up to {worst:.0f} grey levels from what its settings say")


def _try_out(model: LoadedModel) -> None:
    """One grey image through the network: what does not fit shows now and not in the middle of a run."""
    size = model.input_size
    if size is None:
        return
    try:
        with torch.no_grad():
            model(torch.full((1, model.preprocessing.channels, *size), 0.5))
    except InputError:
        raise
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{model.source} does not run at {size[0]} x {size[1]} pixels ({first_line(error)}): leave image_size "
            "out, or choose one that the network allows."
        ) from error
