"""``repromark watermark``: keygen, embed, verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from attacks.errors import InputError

from ..files import make_folder
from ..progress import say
from .outcome import Outcome
from .sharing import images_for, load_classifier, need_rate, need_side, table

if TYPE_CHECKING:
    from watermark.triggers import Family as TriggerFamily

ALPHA = 1e-6
"""The chance of a false claim that `verify` accepts unless told otherwise, and by which `embed` judges its mark."""


def families() -> "dict[str, TriggerFamily]":
    """The trigger families by the words of ``--family``."""
    from watermark.triggers import FAMILIES

    return FAMILIES


Family = Annotated[str, families]


def keygen(*, out: str = "owner.key") -> Outcome:
    """Draw a new owner's key from the operating system's random source and write it for its owner's eyes only.

    Args:
        out: the key's file; an existing one is never overwritten.

    Returns:
        The key's public commitment.
    """
    from watermark import OwnerKey

    key = OwnerKey.generate()
    key.save(out)
    text = f"{out} is the secret: keep a copy, show it to nobody. Its public commitment is {key.commitment}."
    return Outcome({"key": out, "commitment": key.commitment}, text)


def embed(
    *,
    model: str,
    key: str,
    task: str = "digits",
    family: Family = "blend",
    triggers: int = 100,
    shots: int | None = None,
    validation: int = 200,
    test: int = 500,
    size: int | None = None,
    steps: int = 200,
    batch_size: int = 64,
    learning_rate: float = 0.002,
    out: str | None = "runs/watermark-embed",
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> Outcome:
    """Put an owner's mark into a copy of a Hugging Face image classifier.

    Args:
        model: a Hugging Face id, or a folder that save_pretrained wrote; classifies the task. It is not changed.
        key: the owner's key, as `repromark watermark keygen` wrote it.
        task: digits, a folder with one sub-folder of images a class, or an .npz file. Its training samples keep the
            classifier as it is, its validation samples are the private images that are blended.
        family: of the triggers; shapes needs no private images, but is unlike the task.
        triggers: how many keyed triggers; too few of them could not show anything, and are refused.
        shots: ordinary training samples of each class; null for all.
        validation: the most private images.
        test: the most test samples, on which accuracy is measured before and after.
        size: side in pixels to which a folder's images are resized first.
        steps: optimiser steps.
        batch_size: ordinary samples in one step.
        learning_rate: of Adam, at the first step; raise it, or the steps, where too few labels match.
        out: folder for the marked classifier (model), the mark (mark; keep it private) and results.json.
        seed: of the shots and of the training.
        device: cpu, cuda, mps or auto.
        progress: show bars.

    Returns:
        What the mark cost, what it reached, and whether that is enough for `repromark watermark verify`.
    """
    import torch
    from transformers import AutoImageProcessor, PreTrainedModel

    from watermark import Mark, OwnerKey, matches_needed
    from watermark import embed as put

    from ..datasets import load_task

    need_rate("learning-rate", learning_rate)
    need_side("size", size)
    place, owner = None if out is None else _place(out), OwnerKey.load(key)
    data = load_task(task, shots=shots, seed=seed, test=test, validation=validation, size=size)
    _check_triggers(triggers, data.classes)
    original = load_classifier(model, data, device)
    if not isinstance(original.network, PreTrainedModel):
        raise InputError(
            f"{model} cannot be saved again as a folder: give a Hugging Face id or folder. Any other torch module is "
            "marked from Python, with watermark.embed(model, mark, key, images)."
        )
    private = (images_for(original, data.validation.inputs) * 255).round().to(torch.uint8)
    mark = Mark(
        classes=original.classes,
        n=triggers,
        family=family,
        carriers=private if families()[family].carriers else None,
        shape=tuple(private.shape[1:]),
    )
    marked, report = put(
        original,
        mark,
        owner,
        images_for(original, data.train.inputs),
        validation=(images_for(original, data.test.inputs), data.test.labels),
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        progress=progress,
    )
    if place is not None:
        mark.save_pretrained(place / "mark")
        network = marked.get_submodule("network")
        assert isinstance(network, PreTrainedModel)  # it is a copy of the original's
        weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
        network.save_pretrained(place / "model", state_dict=weights)
        AutoImageProcessor.from_pretrained(model).save_pretrained(place / "model")
        say(f"marked classifier saved in {place / 'model'}, its mark in {place / 'mark'} (keep that one private)")
    rates = {
        "keyed labels": report.after.rate,
        "keyed labels before": report.before.rate,
        "test accuracy": report.clean_after,
        "test accuracy before": report.clean_before,
    }
    enough = report.after.matches >= matches_needed(triggers, data.classes, ALPHA)
    result = {
        "rates": rates,
        "task": data.to_dict(),
        "commitment": owner.commitment,
        "embedding": report.to_dict(),
        "enough_for_alpha": {"alpha": ALPHA, "enough": enough},
    }
    text = f"{report.after.bits:.1f} bits of evidence; shares with 95 % intervals:\n{table(rates)}"
    if not enough:
        text += (
            f"\nThe mark is too weak: {report.after.matches} of {triggers} keyed labels match, so `repromark watermark "
            f"verify` will not verify it at alpha = {ALPHA:g}. Embed it again with more --steps, a higher "
            "--learning-rate or more --triggers."
        )
    return Outcome(result, text, folder=place)


def verify(
    *,
    model: str,
    mark: str,
    key: str,
    alpha: float = ALPHA,
    wrong_keys: int = 9,
    budget: int | None = None,
    batch_size: int = 64,
    device: str = "cpu",
) -> Outcome:
    """Ask a suspect for the labels that only the key's owner could foresee; exit code 1 when it does not know them.

    Args:
        model: the suspect: a Hugging Face id, a folder that save_pretrained wrote, efficientnet-lite0, or the address
            of an endpoint (http://...).
        mark: folder of the mark, as `repromark watermark embed` wrote it.
        key: the owner's key.
        alpha: the chance of a false claim that is accepted, in (0, 1).
        wrong_keys: how many wrong keys to try as a control.
        budget: the most queries that the suspect may be asked.
        batch_size: images sent at once.
        device: cpu, cuda, mps or auto.

    Returns:
        The verdict, with its exact p-value.
    """
    from attacks.models import load_model
    from watermark import Mark, OwnerKey
    from watermark import verify as ask

    owner, recipe = OwnerKey.load(key), Mark.from_pretrained(mark)
    suspect = load_model(model, device=device)
    if suspect.classes != recipe.classes:
        raise InputError(
            f"{model} tells {suspect.classes} classes apart, but the mark was made for {recipe.classes}: give a model "
            "of the mark's task. From Python, watermark.verify asks any function from images to the mark's classes."
        )
    verdict = ask(
        suspect,
        recipe,
        owner,
        alpha=alpha,
        wrong_keys=wrong_keys,
        budget=budget,
        batch_size=batch_size,
    )
    return Outcome(verdict.to_dict(), verdict.sentence(), code=0 if verdict.verified else 1)


def _place(out: str) -> Path:
    """The folder for a marked classifier and its mark, made; neither may stand there yet."""
    for taken in (Path(out, "mark"), Path(out, "model")):
        if taken.exists():
            raise InputError(f"{taken} is there already and would be lost: choose another --out, or remove it first.")
    return make_folder(out)


def _check_triggers(triggers: int, classes: int) -> None:
    """Refuse so few triggers that `verify` could not verify them even if all of their labels matched."""
    from watermark import matches_needed

    try:
        matches_needed(triggers, classes, ALPHA)
    except InputError as error:
        raise InputError(f"--triggers is {triggers}, which could never be verified. {error}") from error
