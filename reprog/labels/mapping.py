"""What every label mapping is: weights from source to target classes, and when they are found anew."""

from typing import Protocol

from torch import Tensor

from attacks.errors import InputError


class Mapping(Protocol):
    """How a mapping is found; a user's own needs these three and no base class.

    Whatever finds it, a mapping's tensors are ``matrix``, shape ``[sources, targets]``, and possibly ``bias``, shape
    ``[targets]``: target logits are ``outputs @ matrix + bias``, so that every mapping can be looked into alike.
    """

    @property
    def each_epoch(self) -> bool:
        """Whether the mapping is found anew from each epoch's outputs, or once, before the program has learned."""
        ...

    @property
    def learns(self) -> bool:
        """Whether its tensors are trained by gradient together with the program."""
        ...

    def find(self, outputs: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        """The mapping that these outputs suggest.

        Args:
            outputs: the source model's logits, float32, shape ``[n, sources]``.
            labels: the samples' target classes, int64, shape ``[n]``, below ``classes``; some may not occur.
            classes: how many target classes there are.
        """
        ...


def map_outputs(outputs: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Target logits ``outputs @ matrix + bias``, shape ``[n, targets]``.

    Args:
        outputs: the source model's logits, shape ``[n, sources]``; taken in the matrix's precision.
        tensors: ``matrix``, shape ``[sources, targets]``, and optionally ``bias``, shape ``[targets]``.

    Raises:
        InputError: when the mapping was made for another number of source classes.

    Example:
        >>> import torch
        >>> map_outputs(torch.tensor([[1.0, 5.0]]), {"matrix": torch.tensor([[0.0, 1.0], [1.0, 0.0]])})
        tensor([[5., 1.]])
    """
    matrix = tensors["matrix"]
    if outputs.dim() != 2 or outputs.shape[1] != len(matrix):
        raise InputError(
            f"The model's outputs have shape {tuple(outputs.shape)} but this label mapping takes [n, {len(matrix)}]: "
            "use the model it was made for, one that returns plain logits."
        )
    mapped = outputs.to(matrix.dtype) @ matrix
    return mapped + tensors["bias"] if "bias" in tensors else mapped


def check_sources(sources: int, needed: int, name: str) -> None:
    """Refuse a mapping that gives each target class sources of its own when the model has too few.

    Raises:
        InputError: naming both numbers and the mappings that work.

    Example:
        >>> check_sources(10, 3, "random")
    """
    if sources < needed:
        raise InputError(
            f"The {name} mapping needs {needed} source classes of its own, but the model has {sources}: "
            "use the mapping 'bayesian', 'bayesian_plus' or 'linear', or a model with more classes."
        )


def strongest_sources(matrix: Tensor, *, count: int = 3) -> list[list[tuple[int, float]]]:
    """The source classes that weigh most for each target class, for looking into a mapping.

    Args:
        matrix: shape ``[sources, targets]``.
        count: how many to list, at most; at least 1.

    Returns:
        For each target class, pairs of source class and weight, the heaviest first.

    Example:
        >>> import torch
        >>> strongest_sources(torch.tensor([[0.75, 0.0], [0.25, 1.0]]), count=1)
        [[(0, 0.75)], [(1, 1.0)]]
    """
    weights, sources = matrix.topk(min(count, len(matrix)), dim=0)
    return [
        list(zip(source, weight, strict=True))
        for source, weight in zip(sources.T.tolist(), weights.T.tolist(), strict=True)
    ]
