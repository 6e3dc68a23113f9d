"""``repromark attack``: evaluate."""

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from attacks.errors import InputError

from ..files import make_folder, write_text
from .outcome import Outcome
from .sharing import images_for, load_classifier, load_program, need, need_side, table, task_of

if TYPE_CHECKING:
    from torch import nn

    from attacks.robustness import Cell

Number = TypeVar("Number", int, float)


def evaluate(
    *,
    model: str | None = None,
    program: str | None = None,
    task: str | None = None,
    samples: int = 100,
    size: int | None = None,
    corruptions: str = "all",
    severities: str = "1,3,5",
    benchmark: Literal["imagenet-c", "cifar-c"] = "imagenet-c",
    linf: str = "1/255,2/255,4/255,8/255",
    l2: str = "0.25,0.5,1",
    steps: int = 20,
    batch_size: int = 128,
    out: str | None = "runs/attack-evaluate",
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> Outcome:
    """Make the robustness card of a classifier, or of a reprogrammed model: natural corruptions, and PGD.

    Args:
        model: a classifier of the task: a Hugging Face id, or a folder that save_pretrained wrote. With a program, the
            model that it was trained on, where that is not found under the name it had then.
        program: folder of a program for the task, which is measured on its model.
        task: digits, a folder with one sub-folder of images a class, or an .npz file; by default the program's own, or
            digits.
        samples: the most test samples.
        size: side in pixels to which a folder's images are resized first.
        corruptions: names with commas between, all, or none.
        severities: of the corruptions, 1 to 5, with commas between.
        benchmark: whose severities: of ImageNet-C, meant for 224 pixels, or CIFAR-10-C, meant for 32.
        linf: radii of the l-infinity attacks for images in [0, 1], with commas between, or none.
        l2: radii of the l2 attacks, likewise.
        steps: of PGD.
        batch_size: samples in work at once.
        out: folder for card.json, card.md, card.png and results.json.
        seed: of the corruptions' noise and of PGD's random starts.
        device: cpu, cuda, mps or auto.
        progress: show bars.

    Returns:
        The card.
    """
    from attacks.corruptions import CORRUPTIONS
    from attacks.robustness import evaluate as measure

    from ..datasets import load_task

    if model is None and program is None:
        raise InputError("Give `--model` or `--program`: one of the two is what the card is about.")
    need(samples >= 1, "samples", samples, "at least 1")
    need_side("size", size)
    names = CORRUPTIONS if corruptions == "all" else _words(corruptions)
    radii = {norm: _numbers(text, _radius) for norm, text in (("linf", linf), ("l2", l2))}
    if (largest := max(radii["linf"], default=0)) > 1:
        raise InputError(
            f"--linf holds the radius {largest:g}, but images lie in [0, 1], where 1 already allows everything: write "
            "8 of 255 levels as 8/255."
        )
    place = None if out is None else make_folder(out)
    judged: nn.Module
    if program is not None:
        loaded, backbone = load_program(program, device, model=model)
        judged = loaded.attach(backbone)
        data = task_of(loaded, task=task, test=samples, size=size)
    else:
        data = load_task("digits" if task is None else task, shots=1, validation=0, test=samples, size=size)
        judged = load_classifier(str(model), data, device)
    card = measure(
        judged,
        images_for(judged, data.test.inputs),
        data.test.labels,
        corruptions=names,
        benchmark=benchmark,
        severities=_numbers(severities, int),
        epsilons={norm: values for norm, values in radii.items() if values},
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        progress=progress,
    )
    if place is not None:
        card.save(place / "card.json")
        write_text(place / "card.md", card.markdown())
        if len(card.cells) > 1:
            card.plot(place / "card.png")
    rates = {"clean": card.clean} | {_name(cell): cell.rate for cell in card.cells[1:] if cell.rate is not None}
    text = f"Share of the samples still right, with its 95 % interval:\n{table(rates)}"
    return Outcome({"rates": rates, "task": data.to_dict(), "card": card.to_dict()}, text, folder=place)


def _words(text: str) -> list[str]:
    return [] if text in ("", "none") else [word.strip() for word in text.split(",")]


def _numbers(text: str, read: Callable[[str], Number]) -> list[Number]:
    try:
        return [read(word) for word in _words(text)]
    except (ValueError, ArithmeticError) as error:
        raise InputError(f"{text!r} is not the list needed here: write it like {EXAMPLES[read]}.") from error


def _radius(word: str) -> float:
    return float(Fraction(word))


EXAMPLES: dict[Callable[[str], Any], str] = {int: "1,3,5", _radius: "0.5,1 or 4/255,8/255, or none"}


def _name(cell: "Cell") -> str:
    settings = cell.settings
    return f"{cell.name} {settings['severity']}" if cell.level == 1 else f"{settings['norm']} {settings['epsilon']:.4g}"
