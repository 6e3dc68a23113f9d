"""Recognising the frozen model that a program belongs to, without keeping any of it."""

from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from attacks.engine import weights_hash
from attacks.errors import InputError


@dataclass(frozen=True)
class Backbone:
    """The model that a program was trained on: enough to recognise it, nothing to rebuild it from.

    Attributes:
        name: how it is called, for people.
        source: what :func:`attacks.models.load_model` loads it by; None for a plain torch module.
        revision: the exact version of ``source``; None where it has none.
        outputs: how many logits it returns.
        input_size: height and width in pixels that it was loaded with; None where it has no fixed one.
        weights: SHA-256 over all its weights and buffers (:func:`attacks.engine.weights_hash`).
    """

    name: str
    source: str | None
    revision: str | None
    outputs: int
    input_size: tuple[int, int] | None
    weights: str

    @classmethod
    def of(cls, model: nn.Module, outputs: int) -> "Backbone":
        """Describe a model; one that was not loaded by ``load_model`` goes by its class's name.

        Example:
            >>> Backbone.of(nn.Linear(2, 3), outputs=3).name
            'Linear'
        """
        size = getattr(model, "input_size", None)
        return cls(
            name=str(getattr(model, "name", type(model).__name__)),
            source=getattr(model, "source", None),
            revision=getattr(model, "revision", None),
            outputs=outputs,
            input_size=None if size is None else (int(size[0]), int(size[1])),
            weights=weights_hash(model),
        )

    def check(self, model: nn.Module) -> None:
        """Refuse a model that is not this one.

        Raises:
            InputError: naming what differs: the input size, the weights, or both.
        """
        other = Backbone.of(model, self.outputs)
        differs = [
            f"{name} {getattr(other, name)} instead of {getattr(self, name)}"
            for name in ("input_size", "weights")
            if getattr(other, name) != getattr(self, name)
        ]
        if differs:
            raise InputError(
                f"This program was trained on {self.name} (source: {self.source}, revision: {self.revision}), but the "
                f"model handed over, {other.name}, is not the same: {'; '.join(differs)}. Load that "
                "model, with that input size, or pass strict=False to see how the program does on another one."
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Backbone":
        """What :meth:`to_dict` wrote.

        Raises:
            TypeError, KeyError: when it is no such thing.
        """
        size = saved["input_size"]
        return cls(**saved | {"input_size": None if size is None else (int(size[0]), int(size[1]))})
