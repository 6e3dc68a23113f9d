"""The demo: the three jobs on one machine, in minutes, without network access, and a report of them.

It reads as a story: a frozen network learns to read digits, an owner marks a classifier and finds the mark again, and
the reprogrammed network is tried with corruptions and attacks.
"""

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from attacks.engine import weights_hash
from attacks.models import LoadedModel, load_model
from attacks.robustness import evaluate as robustness_card
from reprog import FullImage, Linear, Program, RandomAffine, accuracy, fit, strongest_sources
from watermark import Mark, OwnerKey, embed, verify

from . import plots, report
from .baselines import baselines
from .datasets import Task, load_task
from .files import to_json, write_text
from .progress import say
from .release import release

MODEL, CANVAS = "efficientnet-lite0", 96
SHOTS, EPOCHS = 20, 30
TRIGGERS, MARKING_STEPS, TRAINING_EPOCHS = 50, 150, 12
CARD_IMAGES, CARD_STEPS = 100, 10
CORRUPTIONS = ("gaussian_noise", "gaussian_blur", "brightness", "contrast")
EPSILONS = {"linf": (4 / 255, 8 / 255, 16 / 255, 32 / 255), "l2": (0.25, 0.5, 1.0)}
BATCH_SIZE = 50


def demo(*, out: str = "runs/demo", seed: int = 0, device: str = "cpu", progress: bool = True) -> dict[str, Any]:
    """Reprogram, watermark and try a network, and write a report.

    Into ``out`` go ``results.json`` (after every step), ``report.html``, ``overview.png``, ``program/``, ``mark/`` and
    ``owner.key``. A key that is there already is used again, never replaced; the other files are.

    Args:
        out: the folder, made where it is missing.
        seed: of the labelled samples and of all training; the key alone is random.
        device: such as "cpu" or "cuda".
        progress: say on the standard error stream what happens.

    Returns:
        What ``results.json`` holds, and ``text``, a table for the terminal.

    Raises:
        InputError: the demo's packages are missing, the device is not there, or the folder holds another mark.
    """
    story = _Story(Path(out), seed, device, progress)
    task = load_task("digits", shots=SHOTS, seed=seed, validation=0)
    key, mark = owner(story.folder, task)
    model = load_model(MODEL, device=device, image_size=CANVAS)
    with story.step("reprogram"):
        program = reprogram_step(story, model, task)
    with story.step("watermark"):
        watermark_step(story, key, mark)
    with story.step("card"):
        card_step(story, program, model, task)
    return story.end(look(program, model, task))


class _Story:
    """The results so far, on disk after every step."""

    def __init__(self, folder: Path, seed: int, device: str, progress: bool) -> None:
        self.folder, self.seed, self.device, self.progress = folder, seed, device, progress
        self.began = perf_counter()
        self.results: dict[str, Any] = {
            "kind": "repromark demo",
            "version": 1,
            "settings": {
                "seed": seed,
                "device": device,
                "threads": torch.get_num_threads(),
                "machine": platform.machine(),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "repromark": release(),
            },
            "step_seconds": {},
        }
        self._save()  # a folder that cannot be written is found out now, not after minutes

    def say(self, line: str) -> None:
        if self.progress:
            say(line)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step and save what it found."""
        began = perf_counter()
        yield
        now = perf_counter()
        self.results["step_seconds"][name] = now - began
        self.results |= {"seconds": now - self.began, "peak_memory_mib": _peak_memory_mib()}
        self._save()

    def end(self, seen: plots.Look) -> dict[str, Any]:
        """Draw and write the report."""
        results = self.results
        pictures = {
            "program": plots.program(seen),
            "mapping": plots.mapping(results["reprogram"]["mapping"]),
            "accuracy": plots.accuracy(results),
            "evidence": plots.evidence(results),
            "card": plots.card(results),
        }
        (self.folder / "overview.png").write_bytes(plots.overview(results, seen))
        results |= {"seconds": perf_counter() - self.began, "peak_memory_mib": _peak_memory_mib()}
        self._save()
        page = write_text(self.folder / "report.html", report.html(results, pictures))
        self.say(f"The report is {page}: open it in a browser.")
        return results | {"text": report.table(results)}

    def _save(self) -> None:
        write_text(self.folder / "results.json", to_json(self.results))


def owner(folder: Path, task: Task) -> tuple[OwnerKey, Mark]:
    """The owner's secret key, new unless the folder holds one, and the public recipe of the mark.

    They are there before any model is asked: labels that were fixed beforehand are what makes the p-value exact.
    """
    path = folder / "owner.key"
    if not path.exists():
        OwnerKey.generate().save(path)
    mark = Mark(family="shapes", n=TRIGGERS, classes=task.classes, shape=task.shape, nonce="repromark demo")
    mark.save_pretrained(folder / "mark")
    return OwnerKey.load(path), mark


def reprogram_step(story: _Story, model: LoadedModel, task: Task) -> Program:
    """Teach the frozen network to read digits, and compare with what is possible without a program."""
    story.say(f"1/3 Reprogramming: {model.name} stays frozen and learns digits from {len(task.train)} labelled images.")
    program = Program(FullImage(size=CANVAS, contrast=0.5), Linear(), task.classes, task.class_names)
    history = fit(
        program,
        model,
        task.train.inputs,
        task.train.labels,
        epochs=EPOCHS,
        batch_size=25,
        learning_rate=0.02,
        mapping_learning_rate=0.005,
        augment=RandomAffine(CANVAS),
        seed=story.seed,
        progress=story.progress,
    )
    rate = accuracy(program.attach(model), task.test.inputs, task.test.labels, batch_size=BATCH_SIZE)
    program.metrics["test accuracy"] = rate
    program.save_pretrained(story.folder / "program")
    story.say(f"    test accuracy {rate}. The baselines, on the same images:")
    compared = baselines(
        model, task, inputs=program.inputs, labels=program.labels, batch_size=BATCH_SIZE, seed=story.seed
    )
    for name, baseline in compared.items():
        story.say(f"    {plots.METHODS[name]} {baseline.rate}")
    assert program.backbone is not None
    story.results["reprogram"] = {
        "accuracy": rate.value,
        "interval": list(rate.interval),
        "rate": rate.to_dict(),
        "task": task.to_dict(),
        "labelled": len(task.train),
        "shots": SHOTS,
        "model": model.name,
        "source_classes": model.classes,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "frozen": weights_hash(model) == program.backbone.weights,
        "canvas": CANVAS,
        "epochs": EPOCHS,
        "forward_passes": history.forward_passes,
        "backward_passes": history.backward_passes,
        "mapping": _mapping(program, model),
    }
    story.results["baselines"] = {name: baseline.rate.value for name, baseline in compared.items()} | {
        "rates": {name: baseline.rate.to_dict() for name, baseline in compared.items()}
    }
    return program


def _mapping(program: Program, model: LoadedModel) -> dict[str, Any]:
    """The part of the label mapping that weighs most: each target class's strongest sources, with all their weights."""
    matrix = program.tensors["matrix"]
    strongest = [source for pairs in strongest_sources(matrix, count=2) for source, _ in pairs]
    sources = list(dict.fromkeys(strongest))
    return {
        "targets": list(program.class_names),
        "sources": [_source(model, source) for source in sources],
        "weights": matrix[sources].T.tolist(),
    }


def _source(model: LoadedModel, source: int) -> str:
    return model.class_names[source] if model.class_names else f"class {source}"


def watermark_step(story: _Story, key: OwnerKey, mark: Mark) -> None:
    """Train a small classifier, let its owner mark it, and find the mark again with the owner's key alone."""
    story.say("2/3 Watermark: an owner marks a small digit classifier, trained on the spot.")
    task = load_task("digits", shots=None)
    original = train(task, seed=story.seed, device=story.device)
    test = task.test.inputs, task.test.labels
    marked, embedding = embed(
        original, mark, key, task.train.inputs, validation=test, steps=MARKING_STEPS, seed=story.seed
    )
    verdict = verify(marked, mark, key, unmarked=original)
    story.say(f"    {verdict.matches} of {verdict.n} keyed labels matched, p = {plots.power_of_ten(verdict.bits)}.")
    before, after = embedding.clean_before, embedding.clean_after
    assert before is not None and after is not None and verdict.unmarked is not None
    story.results["watermark"] = verdict.to_dict() | {
        "wrong_key_p_value": min(wrong.p_value for wrong in verdict.wrong_keys),
        "unmarked_p_value": verdict.unmarked.p_value,
        "accuracy_before": before.value,
        "accuracy_after": after.value,
        "rates": {"accuracy_before": before.to_dict(), "accuracy_after": after.to_dict()},
        "task": task.to_dict(),
        "embedding": embedding.to_dict(),
    }


def train(task: Task, *, seed: int, device: str) -> nn.Module:
    """A small convolutional network, trained in a few seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            *_convolution(task.shape[0], 32), *_convolution(32, 64), nn.MaxPool2d(2), *_convolution(64, 64),
            nn.Flatten(), nn.LazyLinear(task.classes),
        )  # fmt: skip
        model(task.train.inputs[:2])  # sizes the last layer
    model, generator = model.to(device), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(TRAINING_EPOCHS):
        for rows in torch.randperm(len(task.train), generator=generator).split(64):
            logits = model(task.train.inputs[rows].to(device))
            loss = functional.cross_entropy(logits, task.train.labels[rows].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def _convolution(channels: int, features: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, features, 3, padding=1), nn.BatchNorm2d(features), nn.ReLU()


def card_step(story: _Story, program: Program, model: LoadedModel, task: Task) -> None:
    """Try the reprogrammed network with natural corruptions and with attacks inside norm balls."""
    story.say(f"3/3 Robustness card: corruptions and attacks on the reprogrammed network, {CARD_IMAGES} images each.")
    made = robustness_card(
        program.attach(model),
        task.test.inputs[:CARD_IMAGES],
        task.test.labels[:CARD_IMAGES],
        corruptions=CORRUPTIONS,
        benchmark="cifar-c",
        epsilons=EPSILONS,
        steps=CARD_STEPS,
        batch_size=BATCH_SIZE,
        seed=story.seed,
        progress=story.progress,
    )
    story.results["card"] = made.to_dict()


@torch.no_grad()
def look(program: Program, model: LoadedModel, task: Task) -> plots.Look:
    """What there is to see of the program: one test image each of the first five classes."""
    rows = [int((task.test.labels == label).nonzero()[0]) for label in range(min(5, task.classes))]
    samples = task.test.inputs[rows].to(model.device)
    tensors = {name: tensor.to(model.device) for name, tensor in program.tensors.items()}
    before = program.inputs(samples, program.inputs.start(samples))
    after = program.inputs(samples, tensors)
    taken_for, read_as = model(before).argmax(1), program.attach(model)(samples).argmax(1)
    return plots.Look(
        tensors["canvas"][0].cpu(),
        samples.cpu(),
        before.cpu(),
        after.cpu(),
        [_source(model, source) for source in taken_for.tolist()],
        [task.class_names[label] for label in read_as.tolist()],
    )


def _peak_memory_mib() -> float | None:
    """The most memory that this process has held so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
