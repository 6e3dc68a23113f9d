"""A program as a folder: ``config.json``, ``program.safetensors`` and a card. Never the model, never a pickle."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialise
from safetensors.torch import save as serialise

from attacks.engine import Rate
from attacks.errors import InputError
from attacks.files import read_json, write_atomically, writing_into

from .backbone import Backbone
from .card import card
from .inputs import INPUTS
from .labels import LABELS
from .program import Program

FORMAT, VERSION = "repromark-program", 2
CONFIG, TENSORS, CARD = "config.json", "program.safetensors", "README.md"
SEEN = "fingerprints"
KEYS = {"format", "version", "inputs", "labels", "classes", "class_names", "backbone", "training", "metrics", "sha256"}
Part = TypeVar("Part")


def save(program: Program, folder: Path) -> Path:
    """See :meth:`Program.save_pretrained`."""
    if program.backbone is None:
        raise InputError("This program has not been trained yet, so there is nothing to save: call reprog.fit first.")
    everything = program.tensors | {SEEN: program.fingerprints}
    tensors = serialise({name: value.detach().cpu().contiguous() for name, value in everything.items()})
    config = {
        "format": FORMAT,
        "version": VERSION,
        "inputs": _describe(program.inputs, INPUTS),
        "labels": _describe(program.labels, LABELS),
        "classes": program.classes,
        "class_names": list(program.class_names),
        "backbone": program.backbone.to_dict(),
        "training": program.training,
        "metrics": {name: rate.to_dict() for name, rate in program.metrics.items()},
        "sha256": hashlib.sha256(tensors).hexdigest(),
    }
    try:
        text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The program cannot be saved: JSON has no place for a value in its training or its settings ({error}). "
            "Make it a plain number, with float() or int(), or a string."
        ) from error
    # Only now, with nothing left that can fail but the disk, is an older program replaced; its config goes last.
    with writing_into(folder):
        for name, content in ((CARD, card(program)), (TENSORS, tensors), (CONFIG, text)):
            write_atomically(folder / name, content)
    return folder


def load(folder: Path) -> Program:
    """See :meth:`Program.from_pretrained`."""
    config = _read_config(folder / CONFIG)
    try:
        program = Program(
            inputs=_build(config["inputs"], INPUTS, "input program"),
            labels=_build(config["labels"], LABELS, "label mapping"),
            classes=config["classes"],
            class_names=tuple(config["class_names"]),
            backbone=Backbone.from_dict(config["backbone"]),
            training=dict(config["training"]),
            metrics={name: Rate.from_dict(rate) for name, rate in config["metrics"].items()},
        )
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{folder / CONFIG} is damaged: an entry has a wrong form ({error}). Save the program again, or get a "
            "fresh copy of its folder."
        ) from error
    program.tensors = _read_tensors(folder / TENSORS, program, config["sha256"])
    program.fingerprints = program.tensors.pop(SEEN)
    return program


def _describe(part: Any, known: dict[str, type[Any]]) -> dict[str, Any]:
    for kind, made in known.items():
        if type(part) is made:
            return {"kind": kind, **asdict(part)}
    raise InputError(
        f"A program with {type(part).__name__} cannot be saved, because it could not be loaded again: use one of "
        f"{', '.join(sorted(made.__name__ for made in known.values()))}."
    )


def _build(saved: dict[str, Any], known: dict[str, type[Part]], what: str) -> Part:
    settings = dict(saved)
    kind = settings.pop("kind")
    if kind not in known:
        raise InputError(
            f"The saved {what} is of kind {kind!r}, which this version of repromark does not know: it knows "
            f"{', '.join(sorted(known))}. Install a newer version."
        )
    return known[kind](**settings)


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if config.get("format") != FORMAT:
        raise InputError(f"{path} is not the config of a repromark program: give a folder that save_pretrained wrote.")
    if config.get("version") != VERSION:
        raise InputError(
            f"{path} has format version {config.get('version')!r}, but this version of repromark reads {VERSION}: "
            "install the version that wrote it, or train the program again."
        )
    if config.keys() != KEYS:
        odd = ", ".join(sorted(config.keys() ^ KEYS))
        raise InputError(f"{path} has unknown or missing entries ({odd}): get a fresh copy of the program's folder.")
    return config


def _read_tensors(path: Path, program: Program, sha256: str) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"There is no {path}: the program's folder is incomplete, get a fresh copy.")
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise InputError(
                f"{path} is not the file that config.json beside it was written with: it is damaged, or saving was cut "
                "off. Save the program again, or get a fresh copy of its folder."
            )
        tensors = deserialise(content)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}): get a fresh copy of the program's folder.") from error
    outputs = program.backbone.outputs if program.backbone else 0
    seen = tensors.get(SEEN, torch.empty(0))
    wanted = program.inputs.shapes | {"matrix": (outputs, program.classes), SEEN: (seen.numel(),)}
    if program.labels.learns:
        wanted |= {"bias": (program.classes,)}
    if getattr(program.labels, "temperature", None) is not None:
        wanted |= {"temperature": ()}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    if shapes != wanted:
        raise InputError(
            f"{path} holds {shapes}, but config.json beside it describes {wanted}: the two belong to different "
            "programs, get a fresh copy of the folder."
        )
    if seen.dtype != torch.int64:
        raise InputError(f"{path} holds {SEEN} of type {seen.dtype}, not int64: get a fresh copy of the folder.")
    learned = [value for name, value in tensors.items() if name != SEEN]
    if not all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in learned):
        raise InputError(f"{path} holds values that are no finite float32 numbers: get a fresh copy of the folder.")
    return tensors
