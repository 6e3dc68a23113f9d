"""Adversarial patch: one picture that, pasted anywhere into an image, makes a model see what it wants.

Brown et al., "Adversarial patch", 2017 (arXiv:1712.09665). The expectation over places and light is that of Athalye et
al., "Synthesizing robust adversarial examples", ICML 2018: every step sees each image with a landing of its own.
"""

import json
from dataclasses import asdict, dataclass, replace
from math import sqrt
from os import PathLike

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from attacks.errors import InputError

from ..engine import (
    Ask,
    AttackResult,
    Loss,
    Places,
    RandomPatch,
    Stream,
    away_or_towards,
    check_amounts,
    check_counts,
    check_samples,
    cross_entropy,
    device_of,
    frozen,
    get_norm,
)
from ..engine.checks import check_images
from .universal import judged, whole_batch


@dataclass(frozen=True)
class Patch:
    """A finished patch, to be pasted into new images and kept in a file.

    Attributes:
        picture: shape ``[1, channels, side, side]``, as in the ``shared`` of :func:`adversarial_patch`'s result.
        places: where it may land, and in what light.
        bounds: the smallest and largest valid entry.

    Example:
        >>> patch = Patch(torch.ones(1, 1, 3, 3), Places(circle=False, rotation=0, zoom=(1, 1), brightness=0))
        >>> patch.apply(torch.zeros(2, 1, 8, 9)).sum((1, 2, 3)).round()
        tensor([9., 9.])
    """

    picture: Tensor
    places: Places = Places()
    bounds: tuple[float, float] = (0.0, 1.0)

    def apply(self, images: Tensor, *, seed: int = 0, generator: torch.Generator | None = None) -> Tensor:
        """Images, shape ``[n, channels, height, width]``, with the patch in each at a random place, in random light.

        Args:
            images: with as many channels as the patch; of any size, though what sticks out of one is cut off.
            seed: seeds the places.
            generator: on the images' device; used instead of ``seed``.

        Raises:
            InputError: for images with other channels.
        """
        if images.dim() != 4 or images.shape[1] != self.picture.shape[1]:
            raise InputError(
                f"The images have shape {tuple(images.shape)}, but this patch fits [n, {self.picture.shape[1]}, height,"
                " width]: use it on images like those that it was made from."
            )
        draws = generator or torch.Generator(images.device).manual_seed(seed)
        paste = RandomPatch(self.picture.shape[-1], self.places, draws, self.bounds)
        return paste(images, self.picture.to(images.device))

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to a safetensors file."""
        about = {"places": asdict(self.places), "bounds": self.bounds}
        save_file({"picture": self.picture.contiguous()}, path, {"patch": json.dumps(about)})

    @staticmethod
    def load(path: str | PathLike[str]) -> "Patch":
        """Read what :meth:`save` wrote.

        Raises:
            InputError: when the file holds no patch.
        """
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["patch"])
                places = Places(**{**about["places"], "zoom": tuple(about["places"]["zoom"])})
                return Patch(file.get_tensor("picture"), places, tuple(about["bounds"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} holds no patch: give a file that Patch.save wrote.") from error


def adversarial_patch(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    target: int | None = None,
    size: int | float = 0.1,
    places: Places = Places(),
    epochs: int = 10,
    step_size: float | None = None,
    batch_size: int = 64,
    loss: Loss = cross_entropy,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> AttackResult:
    """Find one patch that makes the model see a class, or err, wherever it lands in whichever image.

    Of the settings of :func:`attacks.run` it shares bounds, batch_size, seed, generator and progress; there is one
    ``target`` for all images and no radius, stop, restarts, budget, levels, estimator or diagnose.

    Args:
        model: maps images to logits, shape ``[n, classes]``.
        x: clean images, float32, shape ``[n, channels, height, width]``, inside ``bounds``.
        labels: their classes, int64, shape ``[n]``.
        target: the class to be seen; None: any but the label.
        size: the patch's side in pixels, or below 1 its share of an image's area; of a circle, the square around it.
        places: where it may land, how much it is turned, zoomed and lit.
        epochs: passes over the images, at least 1; a large model takes hundreds of steps in all.
        step_size: of Adam, in the units of ``x``; 0.05 times the width of the bounds unless given.
        batch_size: images in each step, at least 1.
        loss: what the attack raises at the labels, or lowers at the target.
        bounds: the smallest and largest valid entry of an image.
        seed: seeds the order of the images and the places.
        generator: on the model's device; used instead of ``seed``.
        progress: show a bar over the epochs.

    Returns:
        The result over all images, each with the patch in one random place; distances are l2. The patch itself is its
        ``shared``, shape ``[1, channels, side, side]``, on the device of ``x``: hold it in a :class:`Patch`. Judge it
        on images that it was not made from, beside a patch of noise, which fools some models as well.

    Raises:
        InputError: when images, labels or settings cannot be used as they are; for images that are of the target class.

    Example:
        >>> from attacks.engine.testing import LinearModel
        >>> model, x = LinearModel((1, 6, 6)), torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        >>> labels, others = torch.zeros(16, dtype=torch.int64), x[16:]
        >>> patch = Patch(adversarial_patch(model, x[:16], labels, target=1, size=5, epochs=9).shared)
        >>> model(patch.apply(others)).argmax(1)
        tensor([1, 1, 1, 1])
    """
    check_samples(x, labels, None, bounds)
    check_counts(epochs=epochs, batch_size=batch_size)
    check_counts(least=0, target=target)
    check_amounts(step_size=step_size)
    _check_target(labels, target)
    draws = generator or torch.Generator(device_of(model, x)).manual_seed(seed)
    perturbation = RandomPatch(_side(size, x), places, draws, bounds)
    whole = whole_batch(model, x, labels, None if target is None else torch.full_like(labels, target))
    objective, stream = away_or_towards(loss, whole.targets), Stream(model, perturbation)
    picture = perturbation.start(whole.inputs)
    adam = torch.optim.Adam([picture], lr=0.05 * (bounds[1] - bounds[0]) if step_size is None else step_size)
    with frozen(model):
        for _ in tqdm(range(epochs), disable=not progress, unit="epoch"):
            for rows in torch.randperm(len(x), generator=draws, device=draws.device).split(batch_size):
                picture.grad = stream.on(whole.take(rows))(Ask(picture, objective, gradient=True)).slope()
                adam.step()
                picture.copy_(perturbation.clip(whole.inputs, picture))
        result = judged(model, whole, perturbation(whole.inputs, picture), get_norm("l2"), batch_size)
    passes = torch.full_like(whole.labels, epochs)
    return replace(result, forward_passes=passes + 1, backward_passes=passes, shared=picture.detach()).to(x.device)


def _check_target(labels: Tensor, target: int | None) -> None:
    own = 0 if target is None else int((labels == target).sum())
    if own:
        raise InputError(
            f"{own} of {len(labels)} images are of class {target}, the target, and would count as successes: leave "
            "them out, with labels != target."
        )


def _side(size: int | float, x: Tensor) -> int:
    """The patch's side in pixels."""
    check_images(x, "A patch")
    height, width = x.shape[2:]
    side = size if size >= 1 else round(sqrt(max(size, 0) * height * width))
    if isinstance(size, bool) or side != int(side) or not 1 <= side <= min(height, width):
        raise InputError(
            f"size={size!r} makes a patch {side:g} pixels wide, but in images of {height} x {width} it can have 1 to "
            f"{min(height, width)} whole pixels: give their number, or a share of the area below 1."
        )
    return int(side)
