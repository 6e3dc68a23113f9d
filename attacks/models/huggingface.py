"""Image classifiers from the Hugging Face hub or a folder, with their own image processor made differentiable."""

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from ..errors import InputError
from .loaded import LoadedModel
from .preprocessing import Preprocessing, Size

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

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
    place = Path(source).expanduser()
    if place.is_dir():
        _check_folder(place)
    where = {"pretrained_model_name_or_path": str(place) if place.is_dir() else source, "revision": revision}
    transformers = _transformers()
    with _quiet(transformers, local=place.is_dir()):
        config = _config(transformers, where)
        network = _network(transformers, where, config)
        preprocessing = rebuild(_processor(transformers, where), source)
    options = {}
    if image_size not in (None, preprocessing.input_size):
        preprocessing = preprocessing.at(image_size)
        if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
            options["interpolate_pos_encoding"] = True
    model = LoadedModel(
        network,
        preprocessing,
        name=place.resolve().name if place.is_dir() else source,
        source=source,
        classes=config.num_labels,
        class_names=_class_names(config.id2label),
        revision=getattr(config, "_commit_hash", None),
        forward_options=options,
    )
    _try_out(model)
    return model


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(
            f"The folder {folder} has no config.json: give one that transformers' save_pretrained wrote, with "
            "config.json, model.safetensors and preprocessor_config.json."
        )
    if any(folder.glob("*.safetensors")):
        return
    if any(folder.glob("*.bin")):
        raise InputError(
            f"The folder {folder} has its weights only as a pickle (.bin), which can run code when it is read: "
            "convert it where you trust it, by loading it with transformers and calling save_pretrained, which "
            "writes model.safetensors."
        )
    raise InputError(
        f"The folder {folder} has no weights: model.safetensors must lie beside config.json. Copy it there, or save "
        "the model again with save_pretrained."
    )


def _transformers() -> Any:
    try:
        import transformers

        _ = transformers.AutoImageProcessor  # it is this one that imports much else
    except (ImportError, OSError) as error:  # OSError: a torchaudio whose libraries do not fit torch
        raise InputError(
            f"transformers cannot be imported ({_first_line(error)}): `repromark doctor` says what is broken, and "
            "with --fix mends what it can."
        ) from error
    return transformers


@contextmanager
def _quiet(transformers: Any, *, local: bool) -> Iterator[None]:
    """No warnings of transformers and of the hub's client beside our own sentence; only a download shows bars."""
    logs = transformers.utils.logging
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels, bars = [logger.level for logger in loggers], local and logs.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        if bars:
            logs.disable_progress_bar()
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            logs.enable_progress_bar()


def _config(transformers: Any, where: dict[str, Any]) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    try:
        return transformers.AutoConfig.from_pretrained(**where, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise _unreadable(where, error) from error


def _network(transformers: Any, where: dict[str, Any], config: Any) -> nn.Module:
    """The network with all its weights from the checkpoint: transformers alone would fill gaps with random ones."""
    source = where["pretrained_model_name_or_path"]
    if type(config) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise InputError(
            f"{source} is a {config.model_type} model, for which transformers has no image-classification head: "
            "choose an image classifier, or build one yourself and hand the torch module to load_model."
        )
    try:
        network, info = transformers.AutoModelForImageClassification.from_pretrained(
            **where,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, with a sentence that says which
            dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise _unreadable(where, error) from error
    if info["mismatched_keys"]:
        name, *shapes = sorted(info["mismatched_keys"])[0]
        saved, wanted = map(tuple, shapes)
        raise InputError(
            f"{source} has {name} of shape {saved} in its weights, but its config.json describes {wanted}: the two "
            "belong to different models. Get a fresh copy, or save the model again with save_pretrained."
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(
            f"{source} ({', '.join(config.architectures or ['unknown architecture'])}) has no weights for "
            f"{missing[0]} ({len(missing)} tensors in all): it has no trained image-classification head, and random "
            "numbers would stand in. Choose a checkpoint that was fine-tuned for image classification."
        )
    return network


def _processor(transformers: Any, where: dict[str, Any]) -> "BaseImageProcessor":
    try:
        return transformers.AutoImageProcessor.from_pretrained(**where, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        source = where["pretrained_model_name_or_path"]
        lacking = Path(source).is_dir() and not any(Path(source).glob("*processor_config.json"))
        reason = "there is no such file" if lacking else _first_line(error)
        raise InputError(
            f"{source} has no image processor that can be read ({reason}): add a preprocessor_config.json "
            "(AutoImageProcessor's save_pretrained writes one), or load the network yourself and hand it to load_model "
            "with image_size, mean and std."
        ) from error


def _unreadable(where: dict[str, Any], error: Exception) -> InputError:
    source = where["pretrained_model_name_or_path"]
    if Path(source).exists():
        return InputError(
            f"The folder {source} cannot be read as an image classifier ({_first_line(error)}): a file in it is "
            "damaged, or made for something else. Get a fresh copy, or save the model again with save_pretrained."
        )
    return InputError(
        f"No image classifier with safetensors weights could be read from {source} ({_first_line(error)}): check the "
        "spelling of the hub id, the network (or HF_HUB_OFFLINE) and your access (`hf auth login`), or give a local "
        "folder."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")


def _class_names(id2label: dict[int, str]) -> list[str] | None:
    names = [id2label[index] for index in sorted(id2label)]
    return None if all(name == f"LABEL_{index}" for index, name in enumerate(names)) else names


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
            f"{model.source} does not run at {size[0]} x {size[1]} pixels ({_first_line(error)}): leave image_size "
            "out, or choose one that the network allows."
        ) from error
