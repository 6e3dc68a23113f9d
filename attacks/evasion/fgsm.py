"""Fast gradient sign method. Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015."""

from typing import Unpack

from torch import Tensor, nn

from ..engine import AttackResult, Loss, RunOptions, cross_entropy
from .pgd import pgd


def fgsm(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    norm: str = "linf",
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each sample with one steepest step of length ``epsilon``; in l-inf that is the sign of the gradient.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: clean samples, float32, shape ``[n, ...]``, inside ``bounds`` ([0, 1] unless said).
        labels: their classes, int64, shape ``[n]``.
        epsilon: the length of the step, in the units of ``x``.
        norm: "linf" or "l2".
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`.

    Raises:
        InputError: when samples, labels or settings cannot be used as they are.

    Example:
        >>> import torch
        >>> x, labels = torch.tensor([[0.6, 0.5]]), torch.tensor([0])
        >>> fgsm(nn.Identity(), x, labels, epsilon=0.06).adversarial
        tensor([[0.5400, 0.5600]])
    """
    return pgd(
        model,
        x,
        labels,
        epsilon=epsilon,
        norm=norm,
        steps=1,
        step_size=epsilon,
        random_start=False,
        loss=loss,
        **options,
    )
