"""The pictures of a demo's results: each function draws one and returns it as the bytes of a file.

They take the results as :func:`tasks.demo` writes them, and need no display.
"""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from torch import Tensor

from attacks.engine import Rate
from attacks.robustness import Card

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase, SubFigure

OURS, OTHER, LINE = "#0b6e99", "#9aa5b1", "#c2410c"
"""What the picture is about, what it is compared with, and a threshold; they differ in brightness, too."""

LOG10_2 = math.log10(2)

METHODS = {
    "program": "reprogrammed network",
    "linear_probe": "linear probe",
    "raw_svm": "SVM on raw pixels",
    "mapping_only": "mapping only",
    "majority": "majority class",
}


@dataclass(frozen=True)
class Look:
    """What there is to see of an image program.

    Attributes:
        canvas: the learned pixels, shape ``[3, size, size]``; zero is drawn as grey.
        samples: a few samples as they are, shape ``[n, channels, h, w]``, in [0, 1].
        before: on the canvas without the program, shape ``[n, 3, size, size]``, in [0, 1].
        after: with it, same shape.
        taken_for: for each sample, what the frozen network takes the picture without the program for.
        read_as: for each sample, what the reprogrammed network answers.
    """

    canvas: Tensor
    samples: Tensor
    before: Tensor
    after: Tensor
    taken_for: Sequence[str]
    read_as: Sequence[str]


def program(look: Look) -> bytes:
    """The learned pixels, and some samples on the canvas without and with them; a PNG file."""
    figure = _figure(9.6, 4.2)
    draw_program(figure, look)
    return _file(figure, "png")


def draw_program(figure: "FigureBase", look: Look) -> None:
    """Draw the picture of :func:`program` into a figure or a part of one."""
    left, right = _beside(figure, 1, 2.1)
    axes = left.subplots()
    _show(axes, (0.5 + look.canvas / (2 * look.canvas.abs().max().clamp_min(1e-6))).clamp(0, 1))
    axes.set_title("the learned program", fontsize=10)
    axes.set_xlabel("one image, added to every sample\n(contrast raised; grey adds nothing)", fontsize=8)
    grid = right.subplots(3, len(look.samples), squeeze=False)
    for column in range(len(look.samples)):
        _show(grid[0, column], look.samples[column])
        _show(grid[1, column], look.before[column], _in_lines(look.taken_for[column]))
        _show(grid[2, column], look.after[column], f"read as {look.read_as[column]}")
    for row, name in enumerate(("sample", "without\nprogram", "with\nprogram")):
        grid[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8, fontsize=9)


def _show(axes: "Axes", image: Tensor, below: str = "") -> None:
    axes.imshow(image.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy(), interpolation="nearest", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(below, fontsize=8, labelpad=2)


def mapping(mapped: Mapping[str, Any]) -> bytes:
    """What some of the source classes say for or against each target class: a heat map.

    Args:
        mapped: ``targets`` and ``sources``, their names, and ``weights``, a list for each target class.

    Returns:
        An SVG file.
    """
    weights = np.array(mapped["weights"])
    signed, limit = bool(weights.min() < 0), float(abs(weights).max()) or 1.0
    figure = _figure(9.6, 4.4)
    axes = figure.subplots()
    drawn = axes.imshow(
        weights, cmap="RdBu" if signed else "Blues", vmin=-limit if signed else 0, vmax=limit, aspect="auto"
    )
    sources = [_short(name, 30) for name in mapped["sources"]]
    axes.set_xticks(range(len(sources)), sources, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(weights)), [_short(name, 22) for name in mapped["targets"]])
    axes.set(ylabel="target class", xlabel="the frozen network's own classes")
    axes.set_xticks(np.arange(len(sources)) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(weights)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(drawn, ax=axes, label="weight", pad=0.01, fraction=0.03)
    return _file(figure)


def accuracy(results: Mapping[str, Any]) -> bytes:
    """Test accuracy of the program and of what it is compared with, with 95 % intervals; an SVG file."""
    figure = _figure(7.2, 2.6)
    draw_accuracy(figure.subplots(), results)
    return _file(figure)


def draw_accuracy(axes: "Axes", results: Mapping[str, Any]) -> None:
    """Draw the picture of :func:`accuracy` into axes."""
    saved = {"program": results["reprogram"]["rate"], **results["baselines"]["rates"]}
    rates = {name: Rate.from_dict(saved[name]) for name in METHODS}
    for place, (name, rate) in enumerate(reversed(rates.items())):
        low, high = rate.interval
        axes.barh(place, rate.value, height=0.62, color=OURS if name == "program" else OTHER)
        axes.errorbar(
            rate.value, place, xerr=[[rate.value - low], [high - rate.value]], color="0.15", capsize=4, linewidth=1.3
        )
        axes.text(
            high + 0.015, place, f"{rate.value:.3f}", va="center", fontweight="bold" if name == "program" else None
        )
    axes.set_yticks(range(len(rates)), [METHODS[name] for name in reversed(rates)])
    axes.set(
        xlim=(0, 1.1), xticks=np.linspace(0, 1, 6), xlabel=f"test accuracy (n = {rates['program'].n}), 95 % interval"
    )
    _bare(axes)


def evidence(results: Mapping[str, Any]) -> bytes:
    """The p-values of the owner's key, of wrong keys and of an unmarked model on a log axis; an SVG file."""
    figure = _figure(7.2, 2.4)
    draw_evidence(figure.subplots(), results)
    return _file(figure)


def draw_evidence(axes: "Axes", results: Mapping[str, Any]) -> None:
    """Draw the picture of :func:`evidence` into axes."""
    mark = results["watermark"]
    rows = {
        "owner's key": [mark["bits"]],
        f"{len(mark['wrong_keys'])} wrong keys": [wrong["bits"] for wrong in mark["wrong_keys"]],
        "unmarked twin": [mark["unmarked"]["bits"]],
    }
    alpha = -math.log10(mark["alpha"])
    end = max(mark["bits"] * LOG10_2, 2 * alpha)
    axes.axvline(alpha, color=LINE, linestyle="--", linewidth=1.4)
    axes.text(alpha + 0.012 * end, len(rows) - 0.8, f"threshold {mark['alpha']:g}", color=LINE, va="bottom", fontsize=9)
    for place, found in enumerate(reversed(rows.values())):
        powers, ours = [bits * LOG10_2 for bits in found], place == len(rows) - 1
        colour = OURS if ours else OTHER
        axes.hlines(place, 0, max(powers), color=colour, linewidth=2)
        axes.plot(powers, [place] * len(powers), "o", color=colour, markersize=8 if ours else 6)
        said = f"{'smallest ' if len(found) > 1 else ''}p = {power_of_ten(max(found))}"
        if max(powers) > end / 2:  # no room to the right
            axes.text(max(powers), place + 0.2, said, va="bottom", ha="right", color="0.25", fontsize=9)
        else:  # beside the threshold, not across it
            axes.text(max(*powers, alpha) + 0.012 * end, place, said, va="center", color="0.25", fontsize=9)
    axes.set_yticks(range(len(rows)), list(reversed(rows)))
    axes.set(ylim=(-0.65, len(rows) - 0.35), xlim=(-0.02 * end, 1.03 * end))
    axes.set_xlabel("p-value (log scale, stronger to the right)")
    axes.xaxis.set_major_formatter(lambda power, _: "1" if power == 0 else f"$10^{{{-power:.0f}}}$")
    _bare(axes)


def card(results: Mapping[str, Any]) -> bytes:
    """The robustness card's own plot; an SVG file."""
    figure = _figure(9.6, 3.4)
    drawn = Card.from_dict(results["card"]).plot(figure=figure)
    drawn.suptitle("")
    return _file(figure)


def overview(results: Mapping[str, Any], look: Look) -> bytes:
    """Everything in one picture, 1200 pixels wide: program, accuracy, evidence and card; a PNG file."""
    figure = _figure(12, 7.6)
    top, bottom = _below(figure, 1, 1.05)
    left, right = _beside(top, 1.6, 1)
    draw_program(left, look)
    upper, lower = right.subplots(2, 1, height_ratios=(1.25, 1))
    draw_accuracy(upper, results)
    draw_evidence(lower, results)
    Card.from_dict(results["card"]).plot(figure=cast("Figure", bottom)).suptitle("")
    for part, title in (
        (left, f"Reprogramming: a frozen {results['reprogram']['model']} reads digits"),
        (right, "... against its baselines; a watermark is found"),
        (bottom, "How easily the reprogrammed network is misled"),
    ):
        part.suptitle(title, fontsize=11, fontweight="bold")
    from PIL import Image

    colours = Image.open(io.BytesIO(_file(figure, "png", dpi=100))).convert("RGB").quantize(256)
    with io.BytesIO() as file:
        colours.save(file, "PNG", optimize=True)
        return file.getvalue()


def power_of_ten(bits: float) -> str:
    """A p-value of ``2 ** -bits`` to print; numbers too small for a float as well.

    Example:
        >>> power_of_ten(332.19), power_of_ten(5000.0), power_of_ten(1.0)
        ('1.0e-100', '7.1e-1506', '0.50')
    """
    power = -bits * LOG10_2
    if power > -3:
        return f"{10**power:.2f}"
    whole = math.floor(power)
    return f"{10 ** (power - whole):.1f}e{whole}"


def _short(name: str, most: int) -> str:
    name = name.split(",")[0]
    return name if len(name) <= most else name[: most - 1] + "…"


def _in_lines(name: str) -> str:
    return textwrap.fill(name.split(",")[0], 16, max_lines=3, placeholder="…")


def _bare(axes: "Axes") -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)


def _beside(figure: "FigureBase", *widths: float) -> "Sequence[SubFigure]":
    return cast("Sequence[SubFigure]", figure.subfigures(1, len(widths), width_ratios=widths))


def _below(figure: "FigureBase", *heights: float) -> "Sequence[SubFigure]":
    return cast("Sequence[SubFigure]", figure.subfigures(len(heights), 1, height_ratios=heights))


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _file(figure: "Figure", kind: Literal["svg", "png"] = "svg", dpi: int = 150) -> bytes:
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "repromark"}), io.BytesIO() as file:
        figure.savefig(file, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else None)
        return file.getvalue()
