"""The shortest way to a hyperplane inside a box: what boundary attacks step along."""

import torch
from torch import Tensor

from attacks.errors import InputError

from .constraints import TINY


def shortest_step(norm: str, normal: Tensor, amount: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """argmin of ``|d|`` over ``<normal, d> = amount`` and ``low <= d <= high``, for each sample.

    Exact in every norm. Where the box ends before the hyperplane, the corner of the box that comes nearest to it.

    Source: Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020,
    equation 4; in l-inf and l2 the level of their sorted search is found by Newton's method, which needs no sorting.

    Args:
        norm: "linf", "l2" or "l1".
        normal: shape ``[n, ...]``.
        amount: shape ``[n]``.
        low: how far each entry may go down, at most 0, shape ``[n, ...]``.
        high: how far each entry may go up, at least 0, shape ``[n, ...]``.

    Returns:
        The step ``d``, shape ``[n, ...]``.

    Raises:
        InputError: for another norm.

    Example:
        >>> normal, low, high = torch.tensor([[2.0, -1.0]]), torch.tensor([[-1.0, -0.1]]), torch.tensor([[1.0, 0.1]])
        >>> shortest_step("linf", normal, torch.tensor([0.9]), low, high)
        tensor([[ 0.4000, -0.1000]])
        >>> shortest_step("l1", normal, torch.tensor([2.05]), low, high)
        tensor([[ 1.0000, -0.0500]])
    """
    if norm not in ("linf", "l2", "l1"):
        raise InputError(f"norm={norm!r} has no shortest step to a hyperplane: use 'linf', 'l2' or 'l1'.")
    # Every entry moves to the side that helps: what is left to find is how far, between 0 and its room.
    flat, goal = normal.flatten(1), amount.abs()[:, None]
    side, slope = flat.sign() * torch.where(amount < 0, -1, 1)[:, None], flat.abs()
    room = (side * high.flatten(1)).maximum(side * low.flatten(1)).clamp_min(0)
    if norm == "linf":
        length = room.minimum(_level(slope, room, goal))
    elif norm == "l2":
        length = room.minimum(slope * _level(slope.square(), room / slope.clamp_min(TINY), goal))
    else:
        length = _steepest_first(slope, room, goal)
    return (side * length).reshape(normal.shape)


def _level(weight: Tensor, cap: Tensor, goal: Tensor) -> Tensor:
    """The level at which ``sum(weight * min(level, cap))`` is the goal, shape ``[n, 1]``; huge where it stays below.

    The sum is concave and piecewise linear in the level: Newton's steps from below never overshoot, and end on the
    level once a step no longer crosses the cap of any entry.
    """
    level, pitch, free = torch.zeros_like(goal), torch.full_like(goal, torch.inf), torch.empty_like(cap)
    while True:
        torch.gt(cap, level, out=free)  # 1 where the cap is not reached: several times as fast as a mask and a where
        ahead = torch.linalg.vecdot(weight, free)[:, None]
        if not bool((ahead < pitch).any()):
            return level
        missing = goal - torch.linalg.vecdot(weight, cap.minimum(level))[:, None]
        level, pitch = level + (missing / ahead.clamp_min(TINY)).clamp_min(0), ahead


def _steepest_first(slope: Tensor, room: Tensor, goal: Tensor) -> Tensor:
    """Lengths that use up the room of the steepest entries until the goal is reached."""
    entries, count = slope.shape[1], 64
    while True:  # A few entries mostly do, and finding them costs far less than sorting an image.
        steep, order = slope.topk(min(count, entries), dim=1)
        steep, space = steep.double(), room.gather(1, order).double()
        gain = steep * space
        if count >= entries or bool((gain.sum(1, keepdim=True) >= goal).all()):
            break
        count *= 8
    missing = goal - (gain.cumsum(1) - gain)
    length = (missing / steep.clamp_min(TINY)).clamp_min(0).minimum(space)
    return torch.zeros_like(slope).scatter(1, order, length.to(slope.dtype))
