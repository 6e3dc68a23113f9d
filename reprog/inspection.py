"""Looking into a trained program: which source classes speak for which target class, and whether that has settled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attacks.errors import InputError

from .history import History
from .labels import source_shares, strongest_sources
from .program import Program

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class MappedClass:
    """How one target class is read off the source model's outputs.

    Attributes:
        name: of the target class.
        sources: the outputs that weigh most for it, names and weights, the heaviest first; none that weighs nothing.
        entropy: of the sizes of all its weights, in nats: 0 for a single source, at most ``ln(sources)``. Its
            exponential is about how many source classes speak for the target class. A linear mapping's weights also
            make up for outputs of different scale, so that theirs is no share of influence.
    """

    name: str
    sources: tuple[tuple[str, float], ...]
    entropy: float

    def __str__(self) -> str:
        sources = ", ".join(f"{name} {weight:.3g}" for name, weight in self.sources)
        return f"{self.name}: {sources} (entropy {self.entropy:.2f} nats)"


def inspect_mapping(
    program: Program, *, source_names: Sequence[str] | None = None, count: int = 3
) -> list[MappedClass]:
    """The label mapping of a trained program, target class by target class.

    Args:
        program: a trained one.
        source_names: of the source model's classes, such as ``model.class_names``; numbers without them.
        count: source classes to list for each target class, at most; at least 1.

    Raises:
        InputError: for a program without a mapping yet, or another number of names than the model has outputs.

    Example:
        >>> from reprog import BayesianPlus, FullImage
        >>> program = Program(FullImage(size=4), BayesianPlus(), classes=2, class_names=("cat", "car"))
        >>> program.tensors["matrix"] = torch.tensor([[0.75, 0.0], [0.25, 0.0], [0.0, 1.0]])
        >>> for mapped in inspect_mapping(program, source_names=["lion", "lynx", "van"], count=2):
        ...     print(mapped)
        cat: lion 0.75, lynx 0.25 (entropy 0.56 nats)
        car: van 1 (entropy 0.00 nats)
    """
    matrix = _matrix(program)
    if count < 1:
        raise InputError(f"count={count} source classes cannot be listed: it must be at least 1.")
    names, targets = _names(source_names, len(matrix), "source"), _names(program.class_names, program.classes, "target")
    listed = strongest_sources(matrix, count=count)
    entropies = torch.special.entr(source_shares(matrix).abs()).sum(0).tolist()
    return [
        MappedClass(target, tuple((names[source], weight) for source, weight in pairs if weight), entropy)
        for target, pairs, entropy in zip(targets, listed, entropies, strict=True)
    ]


def plot_mapping(
    program: Program,
    *,
    source_names: Sequence[str] | None = None,
    count: int = 2,
    history: History | None = None,
    figure: "Figure | None" = None,
) -> "Figure":
    """Draw the strongest part of a program's label mapping and, with its history, how much each epoch moved of it.

    Args:
        program: a trained one.
        source_names: of the source model's classes, such as ``model.class_names``; numbers without them.
        count: how many of each target class's strongest sources get a column; at least 1.
        history: what :func:`fit` returned.
        figure: to draw into; a new one by default, which needs no display.

    Raises:
        InputError: as for :func:`inspect_mapping`.

    Example:
        >>> from reprog import BayesianPlus, FullImage
        >>> program = Program(FullImage(size=4), BayesianPlus(), classes=2)
        >>> program.tensors["matrix"] = torch.eye(3)[:, :2]
        >>> [label.get_text() for label in plot_mapping(program, count=1).axes[0].get_xticklabels()]
        ['class 0', 'class 1']
    """
    from matplotlib.figure import Figure

    rows = 1 if history is None else 2
    figure = figure or Figure(figsize=(9.6, 2.2 + 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, squeeze=False, height_ratios=(2, 1)[:rows])[:, 0]
    _draw_weights(axes[0], program, source_names, count)
    if history is not None:
        _draw_changes(axes[1], history)
    return figure


def _draw_weights(axes: "Axes", program: Program, source_names: Sequence[str] | None, count: int) -> None:
    mapped = inspect_mapping(program, source_names=source_names, count=count)
    matrix = _matrix(program)
    strongest = (pair for pairs in strongest_sources(matrix, count=count) for pair in pairs)
    sources = list(dict.fromkeys(source for source, weight in strongest if weight)) or [0]
    weights = matrix[sources].T.cpu()
    signed, limit = bool((weights < 0).any()), float(weights.abs().max().clamp_min(1e-12))
    drawn = axes.imshow(
        weights.numpy(), cmap="RdBu" if signed else "Blues", vmin=-limit if signed else 0, vmax=limit, aspect="auto"
    )
    names = _names(source_names, len(matrix), "source")
    axes.set_xticks(range(len(sources)), [_short(names[source]) for source in sources], rotation=60, ha="right")
    axes.set_yticks(range(len(mapped)), [f"{_short(row.name)} ({row.entropy:.2f})" for row in mapped])
    axes.set(xlabel="source class", ylabel="target class (entropy in nats)")
    axes.figure.colorbar(drawn, ax=axes, label="weight")


def _draw_changes(axes: "Axes", history: History) -> None:
    from matplotlib.ticker import MaxNLocator

    changes = {epoch.number: epoch.mapping_change for epoch in history.epochs if epoch.mapping_change is not None}
    axes.plot(list(changes), list(changes.values()), marker=".")
    axes.axvline(history.kept, color="0.6", linestyle=":", label="kept")
    axes.set(xlabel="epoch", ylabel="share of weight moved", ylim=(-0.02, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right")


def _matrix(program: Program) -> Tensor:
    if "matrix" not in program.tensors:
        raise InputError("This program has no label mapping yet: call reprog.fit first, or load a trained one.")
    return program.tensors["matrix"].detach()


def _names(names: Sequence[str] | None, classes: int, which: str) -> Sequence[str]:
    if names and len(names) != classes:
        raise InputError(
            f"{len(names)} {which} names came for {classes} {which} classes: give one each, or none at all."
        )
    return names or [f"class {number}" for number in range(classes)]


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:29]}…"
