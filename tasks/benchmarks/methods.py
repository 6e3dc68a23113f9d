"""The methods that are compared, with the settings that every library is given."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Method:
    """A method, and what all libraries are told.

    Attributes:
        norm: in which its results are measured.
        settings: under our names; lengths of steps relative to the radius where there is one.
        fixed: whether only success within the network's radius counts; otherwise any, and the distance is to be small.
        nominal: forward and backward passes that the settings amount to, of each sample; None where they only bound
            them, and the floor is that of the passes made.
        samples: the most by default.
        about: the settings in words.
    """

    norm: str
    settings: dict[str, Any]
    fixed: bool
    nominal: tuple[int, int] | None
    samples: int
    about: str


@dataclass(frozen=True)
class Case:
    """One run of a method: what every library gets.

    Attributes:
        model: maps images in [0, 1] to logits; normalises inside.
        x: clean samples, classified correctly, shape ``[n, c, h, w]``.
        labels: their classes, shape ``[n]``.
        norm: of the method.
        settings: of the method.
        epsilon: the network's radius, for methods that are told one.
        seed: of all chance.
    """

    model: nn.Module
    x: Tensor
    labels: Tensor
    norm: str
    settings: dict[str, Any] = field(default_factory=dict)
    epsilon: float = 0.0
    seed: int = 0

    def __getitem__(self, setting: str) -> Any:
        return self.settings[setting]


def _searched(samples: int, rule: str, **more: float) -> Method:
    settings = {"search_steps": 9, "steps": 200, "step_size": 0.01, "initial_c": 1e-3, **more}
    about = f"9 constants x 200 steps of 0.01 from 1e-3{''.join(f', {name} {value}' for name, value in more.items())}"
    return Method(rule, settings, False, (1800, 1800), samples, about)


def _minimum(norm: str, steps: int = 200) -> Method:
    return Method(norm, {"steps": steps}, False, (steps, steps), 256, f"{steps} steps")


METHODS = {
    "pgd": Method("linf", {"steps": 40, "step": 0.1}, True, (40, 40), 256, "40 steps of radius / 10, random start"),
    "auto_pgd": Method("linf", {"steps": 100}, True, (100, 100), 256, "100 steps, cross-entropy, one start"),
    "carlini_wagner": _searched(256, "l2"),
    "deepfool": Method("l2", {"steps": 50, "overshoot": 0.02}, False, None, 256, "at most 50 steps, overshoot 0.02"),
    "ddn": _minimum("l2"),
    "fmn": _minimum("l2"),
    "fmn_linf": _minimum("linf"),
    "fmn_l1": _minimum("l1"),
    "alma": _minimum("l2"),
    "alma_100": _minimum("l2", 100),
    "boundary_projection": _minimum("l2", 100),
    "ead": _searched(16, "l1", beta=1e-3),
    "fab": Method("linf", {"steps": 100}, True, None, 64, "100 steps towards every other class, one start"),
    "square": Method("linf", {"steps": 1000}, True, (1000, 0), 256, "1000 queries"),
    "hopskipjump": Method("l2", {"steps": 10}, False, None, 16, "10 steps, 100 first estimates"),
    "caa": Method("linf", {"steps": 10, "rounds": 5}, False, None, 32, "six components, 5 scheduled orders x 10 steps"),
    "autoattack": Method("linf", {"version": "standard"}, True, None, 256, "version standard"),
    "autoattack_fast": Method("linf", {"version": "fast"}, True, None, 256, "our version fast"),
}
"""By name. EAD, HopSkipJump and CAA have few samples because a peer takes minutes for each handful."""
