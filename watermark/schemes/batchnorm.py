"""Batch normalisation by the clean part of a batch: how the layers would act if their statistics were taken anew."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_PLAIN = (_BatchNorm.forward, nn.SyncBatchNorm.forward)  # what these return is all that the layer does


@contextmanager
def clean_statistics(model: nn.Module, rows: int) -> Iterator[None]:
    """While it lasts, batch-norm layers take mean and variance from a batch's first rows, and use them for all of it.

    The layers' running statistics stay as they are, and so does everything else in a model in evaluation mode. A layer
    whose class has a forward of its own, with an activation in it, say, goes on with its running statistics.

    Args:
        model: any torch module, in evaluation mode; one without batch norm is left as it is.
        rows: how many rows at the front of each batch are clean, at least 1.

    Example:
        >>> layer = nn.BatchNorm1d(1).eval()
        >>> with torch.no_grad(), clean_statistics(layer, 2):
        ...     layer(torch.tensor([[-2.0], [2.0], [8.0]])).round(decimals=3).flatten().tolist()
        [-1.0, 1.0, 4.0]
    """

    def renormalise(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        assert isinstance(layer, _BatchNorm)
        return _normalise(layer, args[0], rows)

    layers = (layer for layer in model.modules() if isinstance(layer, _BatchNorm) and type(layer).forward in _PLAIN)
    hooks = [layer.register_forward_hook(renormalise) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _normalise(layer: _BatchNorm, x: Tensor, rows: int) -> Tensor:
    variance, mean = torch.var_mean(x[:rows], [0, *range(2, x.dim())], correction=0)
    scale = torch.rsqrt(variance + layer.eps)
    shift = -mean * scale
    if layer.affine:
        scale, shift = scale * layer.weight, shift * layer.weight + layer.bias
    front = [1, -1] + [1] * (x.dim() - 2)
    return x * scale.view(front) + shift.view(front)
