"""Where a model computes."""

from itertools import chain

import torch
from torch import Tensor, nn


def device_of(model: nn.Module, otherwise: Tensor | None = None) -> torch.device:
    """The device of a model's first weight or, without weights, of its first buffer.

    Args:
        model: any torch module.
        otherwise: for a model with neither, where its inputs are; the CPU unless given.

    Example:
        >>> device_of(nn.Linear(1, 1)), device_of(nn.Identity(), torch.zeros(1))
        (device(type='cpu'), device(type='cpu'))
    """
    fallback = torch.empty(0) if otherwise is None else otherwise
    return next(chain(model.parameters(), model.buffers()), fallback).device
