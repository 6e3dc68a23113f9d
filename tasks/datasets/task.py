"""A classification task: samples with labels, in three parts that share no sample."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from attacks.engine import check_samples
from attacks.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a task.

    Attributes:
        inputs: images, float32, shape ``[n, channels, height, width]``, entries in [0, 1].
        labels: their classes, int64, shape ``[n]``.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprints(self) -> frozenset[bytes]:
        """What tells the images apart: equal images have equal fingerprints."""
        return frozenset(sha256(image.numpy().tobytes()).digest() for image in self.inputs.cpu().contiguous())


@dataclass(frozen=True, eq=False)
class Task:
    """A classification task; made by :func:`tasks.datasets.load_task`, or from your own tensors.

    Attributes:
        name: what tables and files call it.
        train: the labelled samples to learn from.
        validation: samples to select among models or steps; may be empty.
        test: samples to judge on at the very end.
        class_names: one name per class, in the order of the labels.

    Raises:
        InputError: a part is malformed or empty, a label has no name or no training sample, there are fewer than two
            classes, the parts differ in shape, or an image stands in two parts.

    Example:
        >>> images = torch.linspace(0, 1, 6).reshape(6, 1, 1, 1)
        >>> labels = torch.tensor([0, 1, 0, 1, 0, 1])
        >>> parts = [Split(images[rows], labels[rows]) for rows in (slice(0, 2), slice(2, 4), slice(4, 6))]
        >>> Task("grays", *parts, ("dark", "light")).classes
        2
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise InputError(f"The task {self.name} has {self.classes} class(es): a classification needs at least two.")
        for part, split in self._parts.items():
            if len(split) or part != "validation":
                check_samples(split.inputs, split.labels, None, (0.0, 1.0))
                if int(split.labels.max()) >= self.classes:
                    raise InputError(
                        f"The {part} labels of {self.name} go up to {int(split.labels.max())}, but there are "
                        f"{self.classes} class names: labels are 0 to {self.classes - 1}."
                    )
            if split.inputs.shape[1:] != self.train.inputs.shape[1:]:
                raise InputError(
                    f"The {part} images of {self.name} have shape {tuple(split.inputs.shape[1:])} and the training "
                    f"ones {tuple(self.train.inputs.shape[1:])}: bring them to one shape."
                )
        if len(missing := set(range(self.classes)) - set(self.train.labels.tolist())):
            named = self.class_names[min(missing)]
            raise InputError(f"No training sample of {self.name} shows class {min(missing)} ({named}): add some.")
        self._check_disjoint()

    def _check_disjoint(self) -> None:
        for first, second in (("train", "test"), ("validation", "test"), ("train", "validation")):
            shared = self._parts[first].fingerprints & self._parts[second].fingerprints
            if shared:
                raise InputError(
                    f"{len(shared)} image(s) of {self.name} stand in both the {first} and the {second} part, so its "
                    "rates would flatter: remove them from one of the two."
                )

    @property
    def _parts(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def labelled(self) -> Split:
        """All samples whose labels a method may use: the training samples and after them the validation samples."""
        parts = self.train, self.validation
        return Split(torch.cat([part.inputs for part in parts]), torch.cat([part.labels for part in parts]))

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image: channels, height, width."""
        return tuple(self.train.inputs.shape[1:])

    def to_dict(self) -> dict[str, Any]:
        """What a result needs to say of its task, as plain JSON: the name, and the sizes of it all."""
        sizes = {part: len(split) for part, split in self._parts.items()}
        return {"name": self.name, "classes": self.classes, "shape": list(self.shape), **sizes}


def no_samples(like: Tensor) -> Split:
    """An empty part whose images would have the shape of ``like``'s.

    Example:
        >>> len(no_samples(torch.zeros(5, 1, 2, 2)))
        0
    """
    return Split(like[:0], torch.empty(0, dtype=torch.int64))
