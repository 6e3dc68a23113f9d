"""Samples before they are split, and the split: a fixed test set, and shots that a seed draws from the rest."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attacks.errors import InputError

from .task import Split, Task

FIXED = 0
"""Seeds the choice of the test set, whatever the seed of the shots: results over several seeds share their test."""


@dataclass(frozen=True, eq=False)
class Pool:
    """What a data set holds, images not read yet.

    Attributes:
        labels: classes, integers, shape ``[n]``.
        parts: "train", "validation" or "test" where the data set says so, else "any"; shape ``[n]``.
        fingerprints: equal for equal samples; length n.
        class_names: in the order of the labels.
        read: takes places and returns their images, float32, shape ``[m, channels, height, width]``, in [0, 1].
    """

    labels: NDArray[np.int64]
    parts: NDArray[np.str_]
    fingerprints: Sequence[bytes]
    class_names: tuple[str, ...]
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]]


def split(name: str, pool: Pool, *, shots: int | None, seed: int, test: int, validation: int) -> Task:
    """Draw a task from a pool; see :func:`tasks.datasets.load_task` for the arguments.

    The test and the validation part are drawn from the samples that the data set sets aside for them, or else from
    all. Samples that repeat others are never drawn for training or validation.

    Raises:
        InputError: the labels are no classes from 0 up, or there are too few samples.
    """
    _check(name, pool, shots, seed, test, validation)
    tested = _test(name, pool, test)
    left = _distinct(name, pool, tested)
    order = left[np.random.RandomState(seed).permutation(len(left))]  # RandomState's draws never change with numpy
    chosen, rest = _train(name, pool, order, shots, validation)
    validated = rest[_with_part(pool, rest, "validation")][:validation]

    def part(rows: NDArray[np.int64]) -> Split:
        return Split(torch.from_numpy(pool.read(rows)), torch.from_numpy(pool.labels[rows]))

    return Task(name, part(chosen), part(validated), part(tested), pool.class_names)


def _check(name: str, pool: Pool, shots: int | None, seed: int, test: int, validation: int) -> None:
    if (shots is not None and shots < 1) or test < 1 or validation < 0:
        raise InputError(
            f"shots={shots}, test={test} and validation={validation}: the first two must be at least 1, the last 0."
        )
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed} cannot be used: it must be a whole number from 0 to {2**32 - 1}.")
    found = np.unique(pool.labels)
    if len(found) < 2:
        raise InputError(f"{name} has {len(found)} class(es): a classification needs at least two.")
    if found[0] != 0 or found[-1] != len(found) - 1:
        listed = ", ".join(map(str, found[:12]))
        raise InputError(
            f"The labels of {name} are {listed}{', ...' if len(found) > 12 else ''}, but {len(found)} classes must be "
            f"numbered 0 to {len(found) - 1} without a gap: number them anew."
        )
    if len(pool.class_names) != len(found):
        raise InputError(f"{name} has {len(found)} classes but {len(pool.class_names)} class names: give one for each.")


def _test(name: str, pool: Pool, test: int) -> NDArray[np.int64]:
    """The places of the test set: set aside by the data set, or else at most a third of all."""
    places = np.flatnonzero(pool.parts == "test")
    if len(places) == 0:
        places = np.flatnonzero(pool.parts == "any")
        test = min(test, len(places) // 3)
    if test == 0:
        raise InputError(f"{name} has {len(places)} sample(s) in all, too few to set some aside for a test: add more.")
    return np.sort(np.random.RandomState(FIXED).permutation(places)[:test])


def _distinct(name: str, pool: Pool, tested: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places that may be learnt from: outside the test set, and unlike all of it and each other."""
    seen = {pool.fingerprints[place] for place in tested}
    kept, repeated = [], 0
    for place in np.setdiff1d(np.flatnonzero(pool.parts != "test"), tested):
        mark = pool.fingerprints[place]
        if mark in seen:
            repeated += 1
        else:
            seen.add(mark)
            kept.append(place)
    if repeated:
        warnings.warn(f"{repeated} sample(s) of {name} repeat others, or the test's, and are left out.", stacklevel=4)
    return np.array(kept, dtype=np.int64)


def _with_part(pool: Pool, rows: NDArray[np.int64], part: str) -> NDArray[np.bool_]:
    """Which of ``rows`` may serve as ``part``: those set aside for it, or else those set aside for nothing."""
    given = bool((pool.parts == part).any())
    return pool.parts[rows] == part if given else np.isin(pool.parts[rows], ("any", "train"))


def _train(
    name: str, pool: Pool, order: NDArray[np.int64], shots: int | None, validation: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first ``shots`` of each class in a drawn order (None: all but the validation), and what is left."""
    usable = _with_part(pool, order, "train")
    taken = np.zeros(len(order), dtype=bool)
    if shots is None:
        spare = 0 if (pool.parts == "validation").any() else min(validation, int(usable.sum()) // 5)
        taken[np.flatnonzero(usable)[spare:]] = True
        return order[taken], order[~taken]
    for label, class_name in enumerate(pool.class_names):
        places = np.flatnonzero(usable & (pool.labels[order] == label))
        if len(places) < shots:
            raise InputError(
                f"Class {label} ({class_name}) of {name} has {len(places)} sample(s) beside the test set, but "
                f"shots={shots}: add samples, or ask for fewer shots."
            )
        taken[places[:shots]] = True
    return order[taken], order[~taken]
