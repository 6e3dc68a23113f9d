"""What each level of access lets through of a model's logits."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

Level = Literal["gradients", "scores", "top_k", "label"]


def seen(logits: Tensor, level: Level, top_k: int) -> Tensor:
    """All that is seen of logits, shape ``[n, classes]``, in as few numbers as hold it, shape ``[n, m]``.

    At the two lower levels these are float32, float64 where the logits are, so that a class's number is exact.

    Example:
        >>> seen(torch.tensor([[0.0, 2.0, 1.0]]), "label", 5)
        tensor([[1.]])
    """
    if level in ("gradients", "scores"):
        return logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if level == "label":
        return logits.argmax(1, keepdim=True).to(logits.dtype)
    best = logits.softmax(1).topk(min(top_k, logits.shape[1]), dim=1)
    return torch.cat([best.values, best.indices.to(logits.dtype)], dim=1)


def shown(numbers: Tensor, level: Level, classes: int) -> Tensor:
    """The same as one row over all classes, shape ``[n, classes]``, with the model's answer at its argmax.

    Example:
        >>> shown(torch.tensor([[1.0]]), "label", 3)
        tensor([[0., 1., 0.]])
        >>> shown(torch.tensor([[0.75, 1.0]]), "top_k", 3)
        tensor([[0.1250, 0.7500, 0.1250]])
    """
    if level in ("gradients", "scores"):
        return numbers
    if level == "label":
        return one_hot(numbers.squeeze(1).long(), classes).to(numbers.dtype)
    best, places = numbers.chunk(2, dim=1)
    rest = (1 - best.sum(1, keepdim=True)).clamp_min(0) / max(classes - best.shape[1], 1)
    return rest.repeat(1, classes).scatter(1, places.long(), best)
