"""What is refused before a run starts, each with a sentence."""

from collections.abc import Mapping, Sequence
from math import inf
from numbers import Real

import torch
from torch import Tensor

from attacks.errors import InputError

from .constraints import get_norm

TOLERANCE = 1e-6
"""By how much samples may leave their bounds, as a share of the bounds' width: what rounding does."""


def check_samples(x: Tensor, labels: Tensor, targets: Tensor | None, bounds: tuple[float, float]) -> None:
    """Refuse samples, labels or targets that a run cannot use.

    Raises:
        InputError: for a wrong dtype, shape or range, entries that are no numbers, or labels on another scale.

    Example:
        >>> check_samples(torch.full((1, 2), 255.0), torch.tensor([0]), None, (0.0, 1.0))
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: The samples lie in [255, 255] but must lie in [0, 1]: scale them (8-bit images: \
divide by 255) or say bounds=.
    """
    _check_tensor("samples", x)
    if x.dtype != torch.float32:
        raise InputError(f"The samples are {x.dtype} but must be torch.float32: convert them with .float().")
    if x.dim() < 2 or len(x) == 0:
        raise InputError(f"The samples have shape {tuple(x.shape)} but must be [n, ...] with at least one sample.")
    low, high = (value.item() for value in x.aminmax())
    slack = TOLERANCE * (bounds[1] - bounds[0])
    if not (low >= bounds[0] - slack and high <= bounds[1] + slack):  # also true for NaN
        raise InputError(
            f"The samples lie in [{low:g}, {high:g}] but must lie in [{bounds[0]:g}, {bounds[1]:g}]: "
            "scale them (8-bit images: divide by 255) or say bounds=."
        )
    check_classes("labels", labels, len(x), x.device)
    if targets is not None:
        check_classes("targets", targets, len(x), x.device)
        if bool((targets == labels).any()):
            raise InputError(
                "Some targets equal the samples' own labels: choose another class for each sample to reach."
            )


def check_chance(seed: object, generator: torch.Generator | None, device: torch.device) -> None:
    """Refuse a seed or a generator that a run on this device cannot draw from.

    Raises:
        InputError: naming the setting, its value and what is allowed.

    Example:
        >>> check_chance(0, None, torch.device("cpu"))
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"seed={seed!r} is no whole number.")
    if not isinstance(generator, torch.Generator | None):
        raise InputError(f"generator={generator!r} is no torch.Generator.")
    if generator is not None and generator.device.type != device.type:
        raise InputError(
            f"The generator is on {generator.device}, but the model on {device}: make one with torch.Generator(device)."
        )


def check_bounds(bounds: object) -> None:
    """Refuse bounds that are no two finite numbers, the smaller one first.

    Raises:
        InputError: naming what is allowed.

    Example:
        >>> check_bounds((0.0, 255.0))
    """
    pair = isinstance(bounds, Sequence) and len(bounds) == 2 and all(isinstance(bound, Real) for bound in bounds)
    if not (pair and -inf < bounds[0] < bounds[1] < inf):  # type: ignore[index]
        raise InputError(f"bounds={bounds!r} cannot be used: give the smallest and the largest valid entry, finite.")


def check_images(x: Tensor, purpose: str) -> None:
    """Refuse samples that are no images, where a method needs some.

    Args:
        x: the samples.
        purpose: what needs them, as the sentence begins: "A patch".

    Raises:
        InputError: unless they have the shape ``[n, channels, height, width]``.

    Example:
        >>> check_images(torch.rand(2, 8), "A patch")
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: A patch needs images [n, channels, height, width], but the samples have shape (2, 8).
    """
    _check_tensor("samples", x)
    if x.dim() != 4:
        raise InputError(
            f"{purpose} needs images [n, channels, height, width], but the samples have shape {tuple(x.shape)}."
        )


def _check_tensor(name: str, values: Tensor) -> None:
    if not isinstance(values, Tensor):
        raise InputError(
            f"The {name} are a {type(values).__name__} but must be a torch.Tensor: convert them with torch.as_tensor."
        )


def check_classes(name: str, classes: Tensor, n: int, device: torch.device) -> None:
    """Refuse class numbers that are not int64, one per sample, from 0 up, beside the samples.

    Raises:
        InputError: naming what is wrong with them.

    Example:
        >>> check_classes("labels", torch.tensor([0, 2]), 2, torch.device("cpu"))
    """
    _check_tensor(name, classes)
    if classes.dtype != torch.int64 or classes.shape != (n,):
        raise InputError(
            f"The {name} are {classes.dtype} of shape {tuple(classes.shape)} but must be torch.int64 of shape ({n},): "
            "one class number per sample."
        )
    if classes.device != device:
        raise InputError(f"The {name} are on {classes.device} but the samples on {device}: move them there.")
    if int(classes.min()) < 0:
        raise InputError(f"The {name} contain {int(classes.min())}: classes count from 0 up.")


def check_counts(least: int = 1, **counts: int | None) -> None:
    """Refuse settings that are no whole numbers of at least ``least``; None stands for no limit and passes.

    Raises:
        InputError: naming the setting, its value and its smallest allowed one.

    Example:
        >>> check_counts(restarts=0)
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: restarts=0 is too few: it must be at least 1.
    """
    for name, value in counts.items():
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{name}={value!r} is no whole number: it must be one of at least {least}.")
        if value < least:
            raise InputError(f"{name}={value} is too few: it must be at least {least}.")


def check_amounts(**amounts: float | None) -> None:
    """Refuse settings that are no finite numbers of at least 0; None stands for a default and passes.

    Raises:
        InputError: naming the setting, its value and what is allowed.

    Example:
        >>> check_amounts(step_size="0.1")
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: step_size='0.1' cannot be used: it must be a finite number of at least 0.
    """
    for name, value in amounts.items():
        if value is None:
            continue
        if not isinstance(value, Real) or not 0 <= value < float("inf"):
            raise InputError(f"{name}={value!r} cannot be used: it must be a finite number of at least 0.")


def check_radii(epsilon: float | Sequence[float]) -> tuple[float, ...]:
    """The radii of a run, ascending and each once: one number is one radius.

    Raises:
        InputError: for none, or for a radius that is no finite number of at least 0.

    Example:
        >>> check_radii([0.2, 0.1]), check_radii(0.3)
        ((0.1, 0.2), (0.3,))
    """
    several = isinstance(epsilon, Sequence) and not isinstance(epsilon, str)
    radii: list[float] = list(epsilon) if several else [epsilon]  # type: ignore[arg-type, list-item]
    for radius in radii:
        check_amounts(epsilon=radius)
    if not radii:
        raise InputError("epsilon came as an empty list: give one radius, or a list of at least one.")
    return tuple(sorted({float(radius) for radius in radii}))


def check_plain_steps(norm: str) -> None:
    """Refuse a norm in which plain projected steps along the steepest direction get nowhere.

    In l1 and l0 that direction is a single entry, and once it is at the edge of the box every further step is undone.

    Raises:
        InputError: for "l1", "l0" and names that are not known.

    Example:
        >>> check_plain_steps("l1")
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: norm='l1' does not suit plain gradient steps, which stall at the edge of the box: \
use 'linf' or 'l2'.
    """
    if get_norm(norm).name not in ("linf", "l2"):
        raise InputError(
            f"norm={norm!r} does not suit plain gradient steps, which stall at the edge of the box: use 'linf' or 'l2'."
        )


def refuse_restarts(name: str, options: Mapping[str, object]) -> None:
    """Refuse restarts of an attack without chance, unless its gradients are estimated, which brings chance in.

    Args:
        name: of the attack.
        options: the settings that it hands on to :func:`run`.

    Raises:
        InputError: for more than one start.

    Example:
        >>> refuse_restarts("fgsm", {"restarts": 3})
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: restarts=3 would repeat the same run: fgsm has no chance in it. Leave restarts out, \
or use an attack that begins at random, such as pgd.
    """
    restarts = options.get("restarts", 1)
    check_counts(restarts=restarts)  # type: ignore[arg-type]
    if restarts != 1 and options.get("estimator") is None:
        raise InputError(
            f"restarts={restarts} would repeat the same run: {name} has no chance in it. Leave restarts out, or use an "
            "attack that begins at random, such as pgd."
        )
