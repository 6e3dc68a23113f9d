"""What every label mapping is: weights from source to target classes, and when they are found anew."""

from typing import Protocol

from torch import Tensor

from attacks.errors import InputError

LEAST = 1e-30
"""The smallest probability that is told from none: below it, float32 would make gradients infinite."""


class Mapping(Protocol):
    """How a mapping is found; a user's own needs these three and no base class.

    Whatever finds it, a mapping's tensors are ``matrix``, shape ``[sources, targets]``, and possibly ``bias``, shape
    ``[targets]``, and ``temperature``, a single number. :func:`map_outputs` reads them all, so that every mapping can
    be looked into alike.

    A mapping that looks for classes among the outputs may say ``needs_classes = True``: it is refused on a model that
    says it answers with pooled features.
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
    """Target logits of the source model's outputs, shape ``[n, targets]``.

    They are ``outputs @ matrix + bias``; or, where the mapping has a temperature and so weighs probabilities,
    ``log(softmax(outputs / temperature) @ matrix) + bias``, whose softmax are the weighed probabilities, scaled to sum
    to 1.

    Args:
        outputs: the source model's logits, shape ``[n, sources]``; taken in the matrix's precision.
        tensors: ``matrix``, shape ``[sources, targets]``, and optionally ``bias``, shape ``[targets]``, and
            ``temperature``, shape ``[]``.

    Raises:
        InputError: when the mapping was made for another number of source classes.

    Example:
        >>> import torch
        >>> tensors = {"matrix": torch.tensor([[0.0, 1.0], [1.0, 0.0]])}
        >>> map_outputs(torch.tensor([[1.0, 5.0]]), tensors)
        tensor([[5., 1.]])
        >>> tensors["temperature"] = torch.tensor(1.0)
        >>> map_outputs(torch.tensor([[0.25, 0.75]]).log(), tensors).exp()
        tensor([[0.7500, 0.2500]])
    """
    matrix = tensors["matrix"]
    if outputs.dim() != 2 or outputs.shape[1] != len(matrix):
        raise InputError(
            f"The model's outputs have shape {tuple(outputs.shape)} but this label mapping takes [n, {len(matrix)}]: "
            "use the model it was made for, one that returns plain logits."
        )
    outputs = outputs.to(matrix.dtype)
    if "temperature" in tensors:
        mapped = ((outputs / tensors["temperature"]).softmax(1) @ matrix).clamp_min(LEAST).log()
    else:
        mapped = outputs @ matrix
    return mapped + tensors["bias"] if "bias" in tensors else mapped


def with_temperature(matrix: Tensor, temperature: float | None) -> dict[str, Tensor]:
    """A mapping's tensors: of one that weighs logits (None), or probabilities at this temperature.

    Example:
        >>> import torch
        >>> sorted(with_temperature(torch.eye(2), 1.0)), sorted(with_temperature(torch.eye(2), None))
        (['matrix', 'temperature'], ['matrix'])
    """
    return (
        {"matrix": matrix} if temperature is None else {"matrix": matrix, "temperature": matrix.new_tensor(temperature)}
    )


def check_temperature(temperature: float | None) -> None:
    """Refuse a temperature at which there are no probabilities.

    Raises:
        InputError: naming what is allowed.

    Example:
        >>> check_temperature(2.0)
    """
    if temperature is not None and not 0 < temperature < float("inf"):
        raise InputError(
            f"temperature={temperature} must be a finite number above 0, where 1 takes the model's own probabilities, "
            "or None to weigh its logits."
        )


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


def source_shares(matrix: Tensor) -> Tensor:
    """Each target class's weights as shares, whose sizes sum to 1; signs stay, and so does a column of zeros.

    Args:
        matrix: shape ``[sources, targets]``.

    Example:
        >>> import torch
        >>> source_shares(torch.tensor([[3.0, 0.0], [-1.0, 0.0]]))
        tensor([[ 0.7500,  0.0000],
                [-0.2500,  0.0000]])
    """
    total = matrix.abs().sum(0)
    return matrix / total.where(total > 0, 1.0)


def mapping_change(before: Tensor, after: Tensor) -> float:
    """The share of a mapping's weight that moved to other source classes, the mean over the target classes.

    For one source per target class it is the share of target classes whose source is another one.

    Args:
        before: shape ``[sources, targets]``.
        after: same shape.

    Returns:
        In [0, 1]: half the summed differences of the weights' shares (their total variation distance).

    Example:
        >>> import torch
        >>> mapping_change(torch.eye(3)[:, :2], torch.eye(3)[:, [0, 2]])
        0.5
    """
    return float((source_shares(after) - source_shares(before)).abs().sum(0).mean() / 2)
