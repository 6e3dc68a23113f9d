"""The robustness card: all measurements of one model on one set of samples."""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attacks.engine import Rate
from attacks.errors import InputError
from attacks.files import read_json, write_json

from . import report
from .cell import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1


@dataclass(frozen=True)
class Card:
    """What is known of a model's robustness; made by :func:`~attacks.robustness.evaluate`.

    Attributes:
        model: the model's name.
        cells: the measurements, the one of the clean samples among them.
        settings: what holds for all of them, plain JSON.

    Example:
        >>> clean = Cell(0, "first", "clean", rate=Rate(9, 10))
        >>> pgd = Cell(2, "first", "pgd", {"norm": "linf", "epsilon": 0.1}, Rate(4, 10))
        >>> card = Card("mine", (clean, pgd))
        >>> print(card.clean)
        0.900 [0.596, 0.982] n=10
        >>> Card.from_dict(card.to_dict()) == card
        True
    """

    model: str
    cells: tuple[Cell, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def clean(self) -> Rate:
        """The accuracy on the samples as they are."""
        for cell in self.level(0):
            if cell.rate is not None:
                return cell.rate
        raise InputError("This card has no cell of the clean samples (level 0): evaluate the model again.")

    def level(self, level: int) -> tuple[Cell, ...]:
        """The cells of one level, in the order in which they were measured."""
        return tuple(cell for cell in self.cells if cell.level == level)

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON."""
        return {
            "kind": "robustness card",
            "version": VERSION,
            "model": self.model,
            "settings": self.settings,
            "cells": [cell.to_dict() for cell in self.cells],
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Card":
        """The card that :meth:`to_dict` wrote; intervals are computed anew from the counts.

        Raises:
            InputError: when it is no robustness card of this version.
        """
        kind, version = saved.get("kind"), saved.get("version")
        if (kind, version) != ("robustness card", VERSION):
            raise InputError(
                f"This is of kind {kind!r}, version {version}, but a 'robustness card' of version {VERSION} is needed: "
                "hand over what Card.save wrote, or evaluate the model again."
            )
        return cls(saved["model"], tuple(Cell.from_dict(cell) for cell in saved["cells"]), saved["settings"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the card as JSON. The file appears whole or, when something fails, not at all."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Card":
        """Read what :meth:`save` wrote.

        Raises:
            InputError: when the file holds something else.
        """
        return cls.from_dict(read_json(path))

    def markdown(self) -> str:
        """The card to read: the clean accuracy, then one table a level with every number."""
        return report.markdown(self.model, self.settings, self.cells)

    def plot(self, path: str | os.PathLike[str] | None = None, *, figure: "Figure | None" = None) -> "Figure":
        """Draw the share of samples still right: against severity, and for each norm against epsilon.

        Bars are the 95 % intervals; the dashed line is the clean accuracy. Needs no display.

        Args:
            path: where to save the picture; its ending decides the format (png, svg, pdf).
            figure: an empty matplotlib figure to draw in; a new one by default.

        Returns:
            The figure.

        Raises:
            InputError: when no cell of level 1 or 2 was run.
        """
        return report.plot(self.model, self.cells, path, figure)
