"""What an attack found, per sample, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .measures import Rate


@dataclass(frozen=True)
class AttackResult:
    """What an attack found; every tensor has one entry per sample.

    Attributes:
        adversarial: the best inputs found, shape ``[n, ...]``, inside the bounds; where there was no success, the last
            one tried.
        success: whether the goal is met there, within ``epsilon``, judged anew at the end; bool, shape ``[n]``.
        distance: from the clean sample, in ``norm``, shape ``[n]``.
        forward_passes: times the sample went through the model, the judgement included; int64, shape ``[n]``.
        backward_passes: times a gradient was taken; int64, shape ``[n]``.
        norm: the name of the norm.
        epsilon: the radius of the threat model; None for minimum-norm attacks.
        shared: the one perturbation that served all samples, shape ``[1, ...]``; None where each has its own.
    """

    adversarial: Tensor
    success: Tensor
    distance: Tensor
    forward_passes: Tensor
    backward_passes: Tensor
    norm: str
    epsilon: float | None
    shared: Tensor | None = None

    @property
    def queries(self) -> Tensor:
        """How often each sample was sent to the model: once per forward pass; int64, shape ``[n]``."""
        return self.forward_passes

    @property
    def success_rate(self) -> Rate:
        """The share of samples on which the attack met its goal."""
        return Rate.of(self.success)

    @property
    def robust_rate(self) -> Rate:
        """The share of samples on which it did not."""
        return Rate.of(~self.success)

    def to(self, device: torch.device) -> "AttackResult":
        """The same result on another device."""
        return AttackResult(
            self.adversarial.to(device),
            self.success.to(device),
            self.distance.to(device),
            self.forward_passes.to(device),
            self.backward_passes.to(device),
            self.norm,
            self.epsilon,
            None if self.shared is None else self.shared.to(device),
        )

    @staticmethod
    def join(parts: Sequence["AttackResult"]) -> "AttackResult":
        """The results of consecutive batches of one run as one result."""
        if len(parts) == 1:
            return parts[0]
        return replace(
            parts[0],
            adversarial=torch.cat([part.adversarial for part in parts]),
            success=torch.cat([part.success for part in parts]),
            distance=torch.cat([part.distance for part in parts]),
            forward_passes=torch.cat([part.forward_passes for part in parts]),
            backward_passes=torch.cat([part.backward_passes for part in parts]),
        )

    def __str__(self) -> str:
        where = "" if self.epsilon is None else f" at epsilon {self.epsilon:g}"
        return (
            f"{self.norm}{where}: success {self.success_rate}, "
            f"{self.forward_passes.float().mean():.1f} forward and {self.backward_passes.float().mean():.1f} backward "
            "passes a sample"
        )
