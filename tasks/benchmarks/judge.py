"""One judge for every library: what really fools the network, and how far from the clean sample it is."""

import math

import torch
from torch import Tensor, nn

from attacks.engine import Rate

ORDERS = {"linf": math.inf, "l2": 2.0, "l1": 1.0}
SLACK = 1e-6
"""By how much a change may exceed the radius: what float32 does to a sum of entries in [0, 1]."""


@torch.no_grad()
def judge(
    model: nn.Module, x: Tensor, labels: Tensor, attacked: Tensor, *, norm: str, epsilon: float | None
) -> tuple[Rate, float | None]:
    """Judge attacked samples, clipped to [0, 1] and in float32.

    Args:
        model: maps images to logits.
        x: clean samples, shape ``[n, ...]``.
        labels: their classes.
        attacked: what a library made of them, shape ``[n, ...]``; an entry that is no number fools nobody.
        norm: "linf", "l2" or "l1".
        epsilon: the largest change that counts; None: any.

    Returns:
        The share of the samples that withstood, and the mean distance of the others; None where all withstood.

    Example:
        >>> x = torch.tensor([[0.6, 0.5], [1.0, 0.0]])
        >>> swapped = torch.tensor([[0.4, 0.5], [1.0, -3.0]])
        >>> judge(nn.Identity(), x, torch.tensor([0, 0]), swapped, norm="linf", epsilon=None)
        (Rate(successes=1, n=2), 0.2...)
    """
    sent = attacked.detach().to(x.device, torch.float32).clamp(0, 1)
    distance = torch.linalg.vector_norm((sent - x).flatten(1), ORDERS[norm], dim=1)
    fooled = (model(sent).argmax(1) != labels) & distance.isfinite()
    if epsilon is not None:
        fooled &= distance <= epsilon + SLACK
    return Rate.of(~fooled), distance[fooled].mean().item() if fooled.any() else None
