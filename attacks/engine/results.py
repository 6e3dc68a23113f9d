"""What an attack found, per sample, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attacks.errors import InputError

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
        epsilon: the radius of the threat model, the largest one where several were asked for; None for minimum-norm
            attacks.
        radii: all radii that were asked for, ascending; empty for minimum-norm attacks.
        notes: what there is to say about the run: signs that the model makes attacks look weak, what each part of an
            ensemble found.
        shared: the one perturbation that served all samples, shape ``[1, ...]``; None where each has its own.
    """

    adversarial: Tensor
    success: Tensor
    distance: Tensor
    forward_passes: Tensor
    backward_passes: Tensor
    norm: str
    epsilon: float | None
    radii: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
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

    @property
    def robust_rates(self) -> dict[float, Rate]:
        """For each of the radii, the share of samples on which the attack did not meet its goal within it."""
        return {radius: self.at(radius).robust_rate for radius in self.radii}

    def at(self, epsilon: float) -> "AttackResult":
        """What of this result counts within a radius: no pass is needed to say so.

        For minimum-norm attacks any radius; for fixed-budget ones those of ``radii``: at others they were not tried.

        Example:
            >>> import torch
            >>> passes = torch.ones(2, dtype=torch.int64)
            >>> x, distance = torch.zeros(2, 1), torch.tensor([0.1, 0.3])
            >>> found = AttackResult(x, torch.tensor([True, True]), distance, passes, passes, "l2", None)
            >>> found.at(0.2).success
            tensor([ True, False])
        """
        if self.epsilon is not None and epsilon not in self.radii:
            raise InputError(f"epsilon={epsilon} was not tried in this run, only {', '.join(map(str, self.radii))}.")
        rounding = 8 * torch.finfo(self.distance.dtype).eps * float(self.adversarial.abs().max())
        inside = self.distance <= epsilon * (1 + 1e-6) + rounding
        return replace(self, success=self.success & inside, epsilon=epsilon, radii=(epsilon,))

    def to(self, device: torch.device) -> "AttackResult":
        """The same result on another device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors.items()}
        return replace(self, **moved)

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
            "passes a sample" + "".join(f"\n{note}" for note in self.notes)
        )
