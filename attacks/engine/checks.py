"""What is refused before a run starts, each with a sentence."""

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


def check_classes(name: str, classes: Tensor, n: int, device: torch.device) -> None:
    """Refuse class numbers that are not int64, one per sample, from 0 up, beside the samples.

    Raises:
        InputError: naming what is wrong with them.

    Example:
        >>> check_classes("labels", torch.tensor([0, 2]), 2, torch.device("cpu"))
    """
    if classes.dtype != torch.int64 or classes.shape != (n,):
        raise InputError(
            f"The {name} are {classes.dtype} of shape {tuple(classes.shape)} but must be torch.int64 of shape ({n},): "
            "one class number per sample."
        )
    if classes.device != device:
        raise InputError(f"The {name} are on {classes.device} but the samples on {device}: move them there.")
    if int(classes.min()) < 0:
        raise InputError(f"The {name} contain {int(classes.min())}: classes count from 0 up.")


def check_budget(restarts: int, budget: int | None, batch_size: int | None, levels: int | None) -> None:
    """Refuse counts that leave nothing to do.

    Raises:
        InputError: naming the setting, its value and its smallest allowed one.

    Example:
        >>> check_budget(0, None, None, None)
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: restarts=0 is too few: it must be at least 1.
    """
    given = {"restarts": (restarts, 1), "budget": (budget, 2), "batch_size": (batch_size, 1), "levels": (levels, 2)}
    for name, (value, least) in given.items():
        if value is not None and value < least:
            raise InputError(f"{name}={value} is too few: it must be at least {least}.")


def check_ball(epsilon: float, steps: int, step_size: float) -> None:
    """Refuse a radius, number of steps or step size that no fixed-budget attack can use.

    Raises:
        InputError: naming the setting, its value and what is allowed.

    Example:
        >>> check_ball(0.1, 10, 0.01)
    """
    if not 0 <= epsilon < float("inf"):
        raise InputError(f"epsilon={epsilon} is no radius: it must be a finite number of at least 0.")
    if steps < 1:
        raise InputError(f"steps={steps} is too few: it must be at least 1.")
    if not 0 <= step_size < float("inf"):
        raise InputError(f"step_size={step_size} is no step: it must be a finite number of at least 0.")


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
