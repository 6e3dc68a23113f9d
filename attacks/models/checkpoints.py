"""Classifiers read with transformers: only safetensors, none of the repository's code, a sentence for what is wrong."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ..errors import InputError

HUB_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")
"""An id of the hub, with or without an owner."""


@dataclass(frozen=True)
class Kind:
    """A kind of classifier that transformers has.

    Attributes:
        name: with its article.
        task: what it does.
        auto: transformers' class that finds the architecture.
        architectures: transformers' table of those with such a head.
        reader: transformers' class of what prepares the inputs.
        prepares: what that is called.
        file: its file in a folder.
        files: a pattern that matches all its files, whatever their version.
    """

    name: str
    task: str
    auto: str
    architectures: str
    reader: str
    prepares: str
    file: str
    files: str


@dataclass(frozen=True)
class Checkpoint:
    """A folder that ``save_pretrained`` wrote, or a repository of the hub.

    Attributes:
        source: the folder, or the hub id.
        kind: what it must hold.
        revision: a branch, tag or commit of the hub's repository.
    """

    source: str
    kind: Kind
    revision: str | None = None

    @property
    def folder(self) -> Path | None:
        """Where it is on this machine; None for a hub id."""
        place = Path(self.source).expanduser()
        return place if place.is_dir() else None

    @property
    def name(self) -> str:
        """What to call it in tables."""
        return self.source if self.folder is None else self.folder.resolve().name

    @property
    def where(self) -> dict[str, Any]:
        """What every ``from_pretrained`` is told."""
        return {
            "pretrained_model_name_or_path": str(self.folder or self.source),
            "revision": self.revision,
            "trust_remote_code": False,
        }

    def check(self) -> None:
        """Refuse what is neither a folder nor a hub id; and see :meth:`check_folder`.

        Raises:
            InputError: saying what is allowed.
        """
        if self.folder is None and not HUB_NAME.fullmatch(self.source):
            raise InputError(
                f"There is no folder {self.source}, and it is no hub id either: give a folder that save_pretrained "
                f"wrote with {self.kind.name} in it, or an id such as owner/model."
            )
        self.check_folder()

    def check_folder(self) -> None:
        """Refuse a folder that lacks what a classifier needs, or has its weights as a pickle.

        Raises:
            InputError: saying what is missing.
        """
        folder = self.folder
        if folder is None:
            return
        if not (folder / "config.json").is_file():
            raise InputError(
                f"The folder {folder} has no config.json: give one that transformers' save_pretrained wrote, with "
                f"config.json, model.safetensors and {self.kind.file}."
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
            f"The folder {folder} has no weights: model.safetensors must lie beside config.json. Copy it there, or "
            "save the model again with save_pretrained."
        )

    def transformers(self) -> Any:
        """The library.

        Raises:
            InputError: when it cannot be imported.
        """
        try:
            import transformers

            getattr(transformers, self.kind.reader)  # it is this one that imports much else
        except (ImportError, OSError) as error:  # OSError: a torchaudio whose libraries do not fit torch
            raise InputError(
                f"transformers cannot be imported ({first_line(error)}): `repromark doctor` says what is broken, and "
                "with --fix mends what it can."
            ) from error
        return transformers

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """No warnings of transformers and of the hub's client beside our own sentence; only a download shows bars."""
        logs = self.transformers().utils.logging
        loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
        levels = [logger.level for logger in loggers]
        bars = self.folder is not None and logs.is_progress_bar_enabled()
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

    def config(self) -> Any:
        """Its configuration.

        Raises:
            InputError: when there is none that can be read.
        """
        from huggingface_hub.errors import StrictDataclassError

        try:
            return self.transformers().AutoConfig.from_pretrained(**self.where)
        except (OSError, ValueError, TypeError, KeyError, StrictDataclassError) as error:
            raise self._unreadable(error) from error

    def network(self, config: Any) -> nn.Module:
        """The network with all its weights from the checkpoint: transformers alone would fill gaps with random ones.

        Raises:
            InputError: no such head, weights missing, damaged or of other shapes.
        """
        kind, transformers = self.kind, self.transformers()
        if type(config) not in getattr(transformers, kind.architectures):
            raise InputError(
                f"{self.where['pretrained_model_name_or_path']} is a {config.model_type} model, for which transformers "
                f"has no {kind.task.replace(' ', '-')} head: choose {kind.name}, or build one yourself and hand over "
                "the torch module."
            )
        try:
            network, info = getattr(transformers, kind.auto).from_pretrained(
                **self.where,
                config=config,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, with a sentence that says which
                dtype=torch.float32,
            )
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            raise self._unreadable(error) from error
        self._check_weights(config, info)
        return network

    def _check_weights(self, config: Any, info: dict[str, Any]) -> None:
        source = self.where["pretrained_model_name_or_path"]
        if info["mismatched_keys"]:
            name, *shapes = sorted(info["mismatched_keys"])[0]
            saved, wanted = map(tuple, shapes)
            raise InputError(
                f"{source} has {name} of shape {saved} in its weights, but its config.json describes {wanted}: the two "
                "belong to different models. Get a fresh copy, or save the model again with save_pretrained."
            )
        missing = sorted(info["missing_keys"])
        if missing:
            task = self.kind.task
            raise InputError(
                f"{source} ({', '.join(config.architectures or ['unknown architecture'])}) has no weights for "
                f"{missing[0]} ({len(missing)} tensors in all): it has no trained {task.replace(' ', '-')} head, and "
                f"random numbers would stand in. Choose a checkpoint that was fine-tuned for {task}."
            )

    def reader(self, otherwise: str) -> Any:
        """What prepares its inputs: image processor, tokenizer or feature extractor.

        Args:
            otherwise: what to do when it has none; ends the sentence.

        Raises:
            InputError: when it has none that can be read.
        """
        kind = self.kind
        try:
            return getattr(self.transformers(), kind.reader).from_pretrained(**self.where)
        except Exception as error:  # tokenizers raise nothing narrower at a damaged file
            lacking = self.folder is not None and not any(self.folder.glob(kind.files))
            reason = "there is no such file" if lacking else first_line(error)
            raise InputError(
                f"{self.where['pretrained_model_name_or_path']} has no {kind.prepares} that can be read ({reason}): "
                f"add a {kind.file} ({kind.reader}'s save_pretrained writes one), or {otherwise}."
            ) from error

    def _unreadable(self, error: Exception) -> InputError:
        source, name = self.where["pretrained_model_name_or_path"], self.kind.name
        if Path(source).exists():
            return InputError(
                f"The folder {source} cannot be read as {name} ({first_line(error)}): a file in it is damaged, or made "
                "for something else. Get a fresh copy, or save the model again with save_pretrained."
            )
        return InputError(
            f"No {name.partition(' ')[2]} with safetensors weights could be read from {source} ({first_line(error)}): "
            "check the spelling of the hub id, the network (or HF_HUB_OFFLINE) and your access (`hf auth login`), or "
            "give a local folder."
        )


def first_line(error: Exception) -> str:
    r"""An error in one line, without its full stop.

    Example:
        >>> first_line(ValueError("It broke.\nBadly."))
        'It broke'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")


def class_names(id2label: dict[int, str]) -> list[str] | None:
    """The names in the order of the logits; None where they only count.

    Example:
        >>> class_names({1: "dog", 0: "cat"}), class_names({0: "LABEL_0", 1: "LABEL_1"})
        (['cat', 'dog'], None)
    """
    names = [id2label[index] for index in sorted(id2label)]
    return None if all(name == f"LABEL_{index}" for index, name in enumerate(names)) else names
