"""``repromark reprogram``: fit, evaluate, predict."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from attacks.errors import InputError

from ..files import make_folder
from ..progress import say
from .outcome import Outcome
from .sharing import known_task, load_program, need, need_rate, need_side, table, task_of

if TYPE_CHECKING:
    from attacks.models import LoadedModel
    from reprog import Mapping
    from reprog.inputs import InputProgram

SHORT = {"random": "rlm", "frequency": "flm", "iterative": "ilm", "bayesian": "blm", "bayesian_plus": "blm+"}
"""The papers' abbreviations of label mappings; any other goes by its name in ``reprog.labels.LABELS``."""


def input_kinds() -> "dict[str, type[InputProgram]]":
    """The input transforms by the words of ``--inputs``."""
    from reprog.inputs import INPUTS

    return {name.replace("_", "-"): kind for name, kind in INPUTS.items()}


def label_kinds() -> "dict[str, type[Mapping]]":
    """The label mappings by the words of ``--labels``."""
    from reprog.labels import LABELS

    return {SHORT.get(name, name.replace("_", "-")): kind for name, kind in LABELS.items()}


Inputs = Annotated[str, input_kinds]
Labels = Annotated[str, label_kinds]


def fit(
    *,
    model: str,
    task: str = "digits",
    inputs: Inputs = "full-image",
    labels: Labels = "linear",
    image_size: int | None = None,
    contrast: float | None = None,
    inner: int | None = None,
    shots: int | None = 20,
    validation: int = 0,
    test: int = 500,
    size: int | None = None,
    epochs: int = 5,
    batch_size: int = 32,
    learning_rate: float = 0.01,
    mapping_learning_rate: float = 0.001,
    augment: bool = False,
    baselines: bool = True,
    out: str | None = "runs/reprogram-fit",
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> Outcome:
    """Learn a program and a label mapping for a frozen model, and compare it with its baselines on the test set.

    Args:
        model: efficientnet-lite0, a Hugging Face id, or a folder that save_pretrained wrote.
        task: digits, a folder with one sub-folder of images a class, or an .npz file.
        inputs: full-image adds one learned image all over the sample, low-rank one of fewer numbers, sample-mask and
            decoder one that depends on the sample; frame learns a border around it, scaled-frame its width as well;
            patch covers a part of it.
        labels: how the model's classes become the task's: random, frequency, iterative, Bayesian (blm and blm+),
            linear, by similarity, or groups in order (many-to-one).
        image_size: side of the canvas in pixels, which is the model's input; by default the model's own.
        contrast: factor by which full-image shrinks the samples towards mid-grey, above 0 and at most 1; by default
            0.5, which leaves the learned image room on both sides.
        inner: side of the sample inside a frame, in pixels; by default three quarters of the canvas.
        shots: labelled training samples of each class; null for all.
        validation: further labelled samples by which the best epoch is chosen; with 0 the last epoch is kept.
        test: the most test samples.
        size: side in pixels to which a folder's images are resized first.
        epochs: passes over the training samples; 0 finds the label mapping only.
        batch_size: samples in one step.
        learning_rate: of the program.
        mapping_learning_rate: of the linear mapping.
        augment: turn, shift, scale and shear the training samples a little, anew in each epoch.
        baselines: whether to measure majority class, mapping only, linear probe and a raw-input SVM as well.
        out: folder for the program and results.json.
        seed: of the shots and of the training.
        device: cpu, cuda, mps or auto.
        progress: show bars.

    Returns:
        The rates, and how they came about.
    """
    from attacks.models import load_model
    from reprog import Program, RandomAffine, accuracy
    from reprog import fit as train

    from ..baselines import baselines as measure
    from ..datasets import load_task

    need_rate("learning-rate", learning_rate)
    need_rate("mapping-learning-rate", mapping_learning_rate)
    need_side("image-size", image_size)
    need_side("size", size)
    place = None if out is None else _place(out)
    data = load_task(task, shots=shots, seed=seed, test=test, validation=validation, size=size)
    backbone = load_model(model, image_size=image_size, device=device)
    program = Program(
        _inputs(inputs, backbone, contrast, inner),
        _labels(labels, seed),
        classes=data.classes,
        class_names=data.class_names,
    )
    say(f"{data.name}: {len(data.train)} training, {len(data.validation)} validation, {len(data.test)} test samples")
    history = train(
        program,
        backbone,
        data.train.inputs,
        data.train.labels,
        validation=(data.validation.inputs, data.validation.labels) if len(data.validation) else None,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        mapping_learning_rate=mapping_learning_rate,
        augment=RandomAffine(size=inner or program.inputs.input_size[0]) if augment else None,
        seed=seed,
        progress=progress,
    )
    rates = {"program": accuracy(program.attach(backbone), data.test.inputs, data.test.labels)}
    compared = {}
    if baselines:
        compared = measure(backbone, data, inputs=program.inputs, labels=program.labels, seed=seed, progress=progress)
        rates |= {name: baseline.rate for name, baseline in compared.items()}
    if place is not None:
        program.metrics["test accuracy"] = rates["program"]
        program.training["task"] = {"source": task, "shape": data.shape, "shots": shots, "test": test, "size": size}
        say(f"program saved in {program.save_pretrained(place)}")
    result = {
        "rates": rates,
        "baselines": compared,
        "task": data.to_dict(),
        "labelled": len(data.train) + len(data.validation),
        "model": backbone.describe(),
        "frozen": {"proven": True, "weights": program.backbone.weights if program.backbone else None},
        "epochs": [vars(epoch) for epoch in history.epochs],
        "kept_epoch": history.kept,
        "forward_passes": history.forward_passes,
        "backward_passes": history.backward_passes,
        "seconds": history.seconds,
    }
    return Outcome(result, f"Accuracy on the test set, with its 95 % interval:\n{table(rates)}", folder=place)


def evaluate(
    *,
    program: str,
    model: str | None = None,
    task: str | None = None,
    test: int | None = None,
    size: int | None = None,
    device: str = "cpu",
) -> Outcome:
    """Measure a saved program on a test set; its model is loaded again and must be the same to the last bit.

    Args:
        program: folder that `repromark reprogram fit` or Program.save_pretrained wrote.
        model: the model it was trained on, id or folder, where that is not found under the name it had then.
        task: the task whose test set is used, as in fit; by default the one it was trained on.
        test: the most test samples; by default as many as in fit.
        size: side in pixels to which a folder's images are resized first; by default as in fit.
        device: cpu, cuda, mps or auto.

    Returns:
        The rates.
    """
    from reprog import accuracy

    from ..baselines import majority

    need(test is None or test >= 1, "test", test, "at least 1")
    need_side("size", size)
    loaded, backbone = load_program(program, device, model=model)
    attached = loaded.attach(backbone)
    data = task_of(loaded, task=task, test=test, size=size)
    rates = {
        "program": accuracy(attached, data.test.inputs, data.test.labels),
        "majority": majority(data).rate,
    }
    result = {"rates": rates, "task": data.to_dict(), "model": backbone.describe()}
    return Outcome(result, f"Accuracy on the test set, with its 95 % interval:\n{table(rates)}")


def predict(files: list[str], *, program: str, model: str | None = None, device: str = "cpu") -> Outcome:
    """Classify image files with a saved program.

    Each image is brought to the shape of the task's images first: gray or colour, and resized.

    Args:
        files: image files.
        program: folder that `repromark reprogram fit` or Program.save_pretrained wrote.
        model: the model it was trained on, id or folder, where that is not found under the name it had then.
        device: cpu, cuda, mps or auto.

    Returns:
        For each file the class, its score (softmax, in [0, 1]) and the scores of all classes.
    """
    import numpy as np
    import torch

    from attacks.models import batched_logits

    from ..datasets import read_image

    loaded, backbone = load_program(program, device, model=model)
    channels, *size = known_task(loaded).get("shape", (3, *loaded.inputs.input_size))
    images = [read_image(Path(file), channels=channels, size=(size[0], size[1])) for file in files]
    logits = batched_logits(loaded.attach(backbone), torch.from_numpy(np.stack(images)))
    names = loaded.class_names or tuple(map(str, range(loaded.classes)))
    predictions = []
    for file, scores in zip(files, logits.softmax(1).tolist(), strict=True):
        best = max(range(len(scores)), key=scores.__getitem__)
        by_name = dict(zip(names, scores, strict=True))
        predictions.append({"file": file, "class": names[best], "score": scores[best], "scores": by_name})
    lines = (f"{one['file']}: {one['class']} ({one['score']:.3f})" for one in predictions)
    return Outcome({"predictions": predictions}, "\n".join(lines))


def _place(out: str) -> Path:
    """The folder for a program, made; one whose files a program's would replace is refused, such as a model's own."""
    from reprog import Program

    taken = [name for name in ("config.json", "program.safetensors", "README.md") if Path(out, name).exists()]
    if taken:
        try:
            Program.from_pretrained(out)
        except InputError as error:
            raise InputError(
                f"--out {out} holds no whole program, but {', '.join(taken)}, which a program's would replace: choose "
                "another folder."
            ) from error
    return make_folder(out)


def _inputs(word: str, model: "LoadedModel", contrast: float | None, inner: int | None) -> "InputProgram":
    size = model.input_size
    if size is None or size[0] != size[1]:
        raise InputError(
            f"{model.name} takes images of {size or 'any size'}, but a program needs a square canvas: say --image-size."
        )
    kinds: dict[str, Any] = input_kinds()
    known = {name: [field.name for field in fields(kind)] for name, kind in kinds.items()}
    defaults = {"contrast": 0.5, "inner": 3 * size[0] // 4}
    settings = {}
    for name, given in {"contrast": contrast, "inner": inner}.items():
        if name in known[word]:
            settings[name] = defaults[name] if given is None else given
        elif given is not None:
            others = " or ".join(other for other in kinds if name in known[other])
            raise InputError(f"{name}={given} belongs to --inputs {others}: leave it out, or choose that one.")
    return kinds[word](size=size[0], **settings)


def _labels(word: str, seed: int) -> "Mapping":
    kind: Any = label_kinds()[word]
    return kind(**{field.name: seed for field in fields(kind) if field.name == "seed"})
