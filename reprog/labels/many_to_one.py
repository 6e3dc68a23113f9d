"""Mappings that are known beforehand: each target class has a group of source classes, whatever the samples are."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from attacks.errors import InputError

from .mapping import check_sources, check_temperature, with_temperature

Groups = tuple[tuple[int, ...], ...]
Weights = Literal["mean", "sum"] | tuple[tuple[float, ...], ...]


def in_order(sources: int, classes: int) -> Groups:
    """The source classes shared out as they come, ``sources // classes`` to each target class; the rest goes unused.

    Raises:
        InputError: when there are fewer source than target classes.

    Example:
        >>> in_order(7, 3)
        ((0, 1), (2, 3), (4, 5))
    """
    check_sources(sources, classes, "many_to_one")
    size = sources // classes
    return tuple(tuple(range(size * target, size * (target + 1))) for target in range(classes))


@dataclass(frozen=True)
class ManyToOne:
    """A group of source classes for each target class: given, made by :func:`semantic`, or all of them in order.

    Nothing is found in the samples. For groups that the model's predictions suggest, see ``per_class`` of
    :class:`Frequency` and :class:`Iterative`.

    Source: the many-to-one mapping of Yang, Tsai and Chen, "Voice2Series: reprogramming acoustic models for time series
    classification", ICML 2021: the mean of the probabilities, over groups in order.

    Attributes:
        groups: for each target class its source classes, counted from 0, none twice in a group; one may serve several
            target classes. Empty shares them out in order (:func:`in_order`).
        weights: "mean" or "sum" over a group, which matters where groups differ in size; or a number of at least 0 for
            each source class, arranged like ``groups``.
        temperature: a number above 0 weighs probabilities at that temperature, 1 the model's own; None weighs logits.

    Example:
        >>> import torch
        >>> outputs, nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
        >>> ManyToOne(groups=((3,), (0, 1))).find(outputs, nothing, 2)["matrix"].T
        tensor([[0.0000, 0.0000, 0.0000, 1.0000],
                [0.5000, 0.5000, 0.0000, 0.0000]])
    """

    groups: Groups = ()
    weights: Weights = "mean"
    temperature: float | None = 1.0
    needs_classes: ClassVar[bool] = True
    each_epoch: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(map(tuple, self.groups)))  # JSON gives lists
        if not isinstance(self.weights, str):
            object.__setattr__(self, "weights", tuple(map(tuple, self.weights)))
        check_temperature(self.temperature)
        for target, group in enumerate(self.groups):
            _check_group(target, group)
        _check_weights(self.weights, self.groups)

    def find(self, outputs: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        """The groups' weights; outputs and labels only say the sizes, and there may be none.

        Raises:
            InputError: when the groups fit another number of classes, or another model.
        """
        sources = outputs.shape[1]
        groups = self.groups or in_order(sources, classes)
        if len(groups) != classes:
            raise InputError(
                f"{len(groups)} groups of source classes came for {classes} target classes: give one each."
            )
        highest = max(map(max, groups))
        if highest >= sources:
            raise InputError(
                f"The groups name source class {highest}, but the model has {sources}, counted from 0: use the model "
                "that they were made for."
            )
        matrix = outputs.new_zeros(sources, classes)
        for target, group in enumerate(groups):
            matrix[list(group), target] = matrix.new_tensor(self._weights(target, len(group)))
        return with_temperature(matrix, self.temperature)

    def _weights(self, target: int, size: int) -> list[float]:
        if isinstance(self.weights, str):
            return [1 / size if self.weights == "mean" else 1.0] * size
        return list(self.weights[target])


def _check_group(target: int, group: tuple[int, ...]) -> None:
    whole = all(type(source) is int and source >= 0 for source in group)
    if not group or not whole or len(set(group)) < len(group):
        raise InputError(
            f"The group of target class {target}, {group}, is none: give each at least one source class, as a whole "
            "number from 0 up, and none twice."
        )


def _check_weights(weights: Weights, groups: Groups) -> None:
    if isinstance(weights, str):
        if weights not in ("mean", "sum"):
            raise InputError(
                f"weights={weights!r} is unknown: choose 'mean' or 'sum', or give numbers like the groups."
            )
        return
    if not groups or list(map(len, weights)) != list(map(len, groups)):
        raise InputError("The weights are not arranged like the groups: give one number for each of their classes.")
    if not all(all(0 <= weight < float("inf") for weight in row) and sum(row) > 0 for row in weights):
        raise InputError("Weights must be finite numbers of at least 0, and in each group one at least above 0.")
