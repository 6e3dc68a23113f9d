"""A demo's results to read: a table for the terminal and a page that needs nothing beside itself."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attacks.engine import Rate

from .plots import METHODS, power_of_ten

MEANINGS = {
    "program": "the frozen network with program and mapping, trained on turned and shifted copies of the images",
    "linear_probe": "logistic regression on the frozen network’s outputs for the images as they are",
    "raw_svm": "a support vector machine on the 8 × 8 pixels themselves; no network at all",
    "mapping_only": "the same kind of mapping without a program, found from those outputs",
    "majority": "always the most frequent class: the least that any method must beat",
}


def html(results: Mapping[str, Any], plots: Mapping[str, bytes]) -> str:
    """The report as one HTML page: pictures and style inside, no script, no reference to anything outside.

    Args:
        results: of a whole demo, as :func:`tasks.demo.demo` returns them.
        plots: PNG or SVG files by name: ``program, mapping, accuracy, evidence, card``.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tasks"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    filters: dict[str, Callable[..., str]] = {
        "data_uri": data_uri,
        "json": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        "percents": lambda interval: " to ".join(f"{100 * end:.1f}" for end in interval) + " %",
        "power_of_ten": power_of_ten,
        "setting": setting,
    }
    environment.filters |= filters
    cells = results["card"]["cells"]
    attacks = [cell for cell in cells if cell["level"] == 2 and cell["rate"]]
    rates = {"program": results["reprogram"]["rate"], **results["baselines"]["rates"]}
    return environment.get_template("report.html").render(
        results=results,
        plots=plots,
        clean=next(cell for cell in cells if cell["level"] == 0),
        attacks=sorted(attacks, key=lambda cell: cell["rate"]["value"], reverse=True),
        methods=[(name, label, rates[name], MEANINGS[name]) for name, label in METHODS.items()],
    )


def data_uri(picture: bytes) -> str:
    """A PNG or SVG file as an address that holds the file itself.

    Example:
        >>> data_uri(b"<svg/>")
        'data:image/svg+xml;base64,PHN2Zy8+'
    """
    kind = "png" if picture.startswith(b"\x89PNG") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def setting(cell: Mapping[str, Any]) -> str:
    """What was done in a cell of the card, in a few words.

    Example:
        >>> setting({"level": 2, "settings": {"norm": "linf", "epsilon": 2 / 255, "steps": 10}})
        'linf, epsilon 2/255, 10 steps'
    """
    chosen = cell["settings"]
    if cell["level"] == 1:
        return f"severity {chosen['severity']}"
    if cell["level"] == 2:
        pixels = chosen["epsilon"] * 255
        whole = chosen["norm"] == "linf" and abs(pixels - round(pixels)) < 1e-6
        epsilon = f"{pixels:.0f}/255" if whole else f"{chosen['epsilon']:.3g}"
        return f"{chosen['norm']}, epsilon {epsilon}, {chosen['steps']} steps"
    return "as they are"


def table(results: Mapping[str, Any]) -> str:
    """The results as lines for a terminal, at most 100 characters wide."""
    return "\n".join(f"  {name:<34} {text}" if text else name for name, text in _rows(results))


def _rows(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    program, mark = results["reprogram"], results["watermark"]
    yield f"Digits on the frozen {program['model']}: test accuracy with {program['labelled']} labelled images", ""
    rates = {"program": program["rate"], **results["baselines"]["rates"]}
    for name, label in METHODS.items():
        yield label, str(Rate.from_dict(rates[name]))
    yield f"Watermark of {mark['n']} keyed labels: {'verified' if mark['verified'] else 'not verified'}", ""
    yield "owner's key", f"{mark['matches']} matches, p = {power_of_ten(mark['bits'])}, {mark['bits']:.1f} bits"
    best = max(mark["wrong_keys"], key=lambda wrong: wrong["matches"])
    yield f"best of {len(mark['wrong_keys'])} wrong keys", f"{best['matches']} matches, p = {best['p_value']:.2g}"
    yield "unmarked twin", f"{mark['unmarked']['matches']} matches, p = {mark['unmarked_p_value']:.2g}"
    yield "accuracy before the mark", str(Rate.from_dict(mark["rates"]["accuracy_before"]))
    yield "accuracy after the mark", str(Rate.from_dict(mark["rates"]["accuracy_after"]))
    yield "Robustness card of the reprogrammed network", ""
    for cell in results["card"]["cells"]:
        text = str(Rate.from_dict(cell["rate"])) if cell["rate"] else "not run"
        yield f"{cell['name'].replace('_', ' ')}, {setting(cell)}", text
    memory = f", {results['peak_memory_mib']:.0f} MiB of memory at the peak" if results["peak_memory_mib"] else ""
    yield f"{results['seconds']:.0f} seconds{memory}", ""
