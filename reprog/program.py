"""A program: what is done to the inputs, how the outputs are read, and what was learned for both."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attacks.engine import Rate, device_of
from attacks.errors import InputError
from attacks.models import check_range

from .backbone import Backbone
from .fingerprints import fingerprints
from .inputs import InputProgram
from .labels import Mapping, map_outputs

Tensors = dict[str, Tensor]


@dataclass
class Program:
    """An input program and a label mapping that together make a frozen model solve another task.

    ``fit`` trains it, ``attach`` joins it with the model, ``save_pretrained`` writes it to a folder without the model.

    Attributes:
        inputs: how samples become the model's inputs, such as :class:`~reprog.inputs.FullImage`.
        labels: how the mapping is found, such as :class:`~reprog.labels.BayesianPlus`.
        classes: how many target classes there are, at least 2.
        class_names: their names, in order; empty when they have none.
        tensors: what was learned, by name, float32: the inputs' ``canvas``, the mapping's ``matrix`` and possibly
            ``bias`` or ``temperature``. Empty before training.
        backbone: the model it was trained on; None before training.
        training: how it was trained, plain JSON; empty before.
        metrics: rates by name, for instance ``{"test accuracy": Rate(450, 500)}``; saved and shown on the card.
        fingerprints: 64-bit digests of the training and validation samples, int64, shape ``[m]``, by which :meth:`seen`
            knows them again; empty before training.

    Example:
        >>> from reprog import BayesianPlus, FullImage, fit
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 6))
        >>> images, labels = torch.rand(8, 1, 2, 2), torch.arange(8) % 2
        >>> program = Program(FullImage(size=4), BayesianPlus(), classes=2)
        >>> history = fit(program, model, images, labels, epochs=1)
        >>> program.attach(model)(images).shape
        torch.Size([8, 2])
    """

    inputs: InputProgram
    labels: Mapping
    classes: int
    class_names: tuple[str, ...] = ()
    tensors: Tensors = field(default_factory=dict)
    backbone: Backbone | None = None
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Rate] = field(default_factory=dict)
    fingerprints: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64), repr=False, compare=False)

    def __post_init__(self) -> None:
        self.class_names = tuple(self.class_names)
        if not isinstance(self.classes, int) or self.classes < 2:
            raise InputError(
                f"classes={self.classes} is no number of classes: a target task has a whole number of at least 2."
            )
        if self.class_names and len(self.class_names) != self.classes:
            raise InputError(
                f"{len(self.class_names)} class names came for {self.classes} classes: give one each, or none at all."
            )

    def attach(self, model: nn.Module, *, strict: bool = True) -> "ReprogrammedModel":
        """Join the program with the model it was trained on.

        Args:
            model: from the model's inputs to logits, shape ``[n, sources]``. Not copied; put into evaluation mode.
            strict: refuse a model whose weights or input size differ from those it was trained on.

        Raises:
            InputError: when the program has not been trained, or the model is another one.
        """
        if self.backbone is None:
            raise InputError("This program has not been trained yet: call reprog.fit first, or load a trained one.")
        if strict:
            self.backbone.check(model)
        return ReprogrammedModel(self, model)

    def seen(self, samples: Tensor) -> Tensor:
        """Which of these samples the program was trained on, or its epoch chosen by: a rate on them would flatter.

        They are known by their pixels, rounded to 8 bits: also in another file format, or gray ones in RGB, but not
        resized or compressed with losses.

        Args:
            samples: in [0, 1], shape ``[n, ...]``, such as images ``[n, 1 or 3, h, w]``; on any device.

        Returns:
            bool, shape ``[n]``, on the CPU; all False before training.

        Raises:
            InputError: for samples outside [0, 1].

        Example:
            >>> from reprog import FullImage, Linear, fit
            >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 6))
            >>> images, labels = torch.rand(4, 1, 2, 2), torch.arange(4) % 2
            >>> program = Program(FullImage(size=4), Linear(), classes=2)
            >>> history = fit(program, model, images, labels, epochs=0)
            >>> program.seen(torch.cat([images[:2], 1 - images[:1]]))
            tensor([ True,  True, False])
        """
        if len(samples):
            check_range(samples)
        return torch.isin(fingerprints(samples), self.fingerprints)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``config.json``, ``program.safetensors`` and a card, ``README.md``; never the model.

        Args:
            folder: made when it is not there; files of these names in it are replaced.

        Returns:
            The folder.

        Raises:
            InputError: when there is nothing trained to save, the parts are not ones that can be loaded again, or the
                folder cannot be written.
        """
        from .saving import save

        return save(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Program":
        """Load what :meth:`save_pretrained` wrote; reads JSON and safetensors only, so no code can hide in it.

        Raises:
            InputError: when files are missing, damaged, of another format version, or do not fit together.
        """
        from .saving import load

        return load(Path(folder))


class ReprogrammedModel(nn.Module):
    """A frozen model as a classifier of the target task: samples in, target logits out.

    Differentiable in the samples, so that attacks run on it as on any other model. It stays in evaluation mode:
    ``train()`` has no effect.

    Attributes:
        backbone: the model, as it was handed over.
        inputs: what is done to the samples first.
        name: of the program and its model, for tables.
        classes: how many target classes there are.
        class_names: their names, or None.
    """

    def __init__(self, program: Program, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model
        self.inputs = program.inputs
        self.name = f"program on {getattr(model, 'name', type(model).__name__)}"
        self.classes = program.classes
        self.class_names = list(program.class_names) or None
        device = device_of(model)
        self._names = tuple(program.tensors)
        for name, tensor in program.tensors.items():
            self.register_buffer(f"learned_{name}", tensor.detach().clone().to(device))
        self.eval()

    def train(self, mode: bool = True) -> "ReprogrammedModel":
        """Stay in evaluation mode, whatever ``mode`` says: batch statistics would no longer be the frozen model's."""
        return super().train(False)

    def forward(self, samples: Tensor) -> Tensor:
        """Target logits, shape ``[n, classes]``, of samples such as images in [0, 1], shape ``[n, 1 or 3, h, w]``.

        Raises:
            InputError: for samples outside [0, 1]; looked at on the CPU alone, since elsewhere it makes the host wait.
        """
        if samples.device.type == "cpu" and samples.is_floating_point():
            check_range(samples)  # the program clamps, so that the model behind it would not notice
        tensors = {name: self.get_buffer(f"learned_{name}") for name in self._names}
        return map_outputs(self.backbone(self.inputs(samples, tensors)), tensors)
