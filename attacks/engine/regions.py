"""Where parameters may lie: inside a ball and inside the box at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from .constraints import Norm
from .perturbations import Perturbation, as_tensor


def feasible(x: Tensor, perturbation: Perturbation, norm: Norm, epsilon: float) -> Callable[[Tensor], Tensor]:
    """What moves parameters to the nearest ones inside the ball whose inputs can exist.

    The box is found once, by clipping what lies infinitely far out; in l-inf ball and box are then one clamp.

    Args:
        x: clean samples, shape ``[n, ...]``.
        perturbation: one whose ``clip`` keeps each entry of one tensor between two values of its own.
        norm: of the ball.
        epsilon: its radius, in the units of ``x``.

    Example:
        >>> from attacks.engine import Additive, get_norm
        >>> inside = feasible(torch.tensor([[0.9, 0.5]]), Additive(), get_norm("linf"), 0.2)
        >>> inside(torch.tensor([[0.5, -0.5]]))
        tensor([[ 0.1000, -0.2000]])
    """
    far = torch.full_like(as_tensor(perturbation.start(x)), torch.inf)
    low, high = as_tensor(perturbation.clip(x, -far)), as_tensor(perturbation.clip(x, far))
    if norm.name == "linf":
        low, high = low.clamp_min(-epsilon), high.clamp_max(epsilon)
        return lambda p: p.clamp(low, high)
    return lambda p: norm.project_box(p, epsilon, low, high)
