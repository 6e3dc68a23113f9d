"""Gradient attacks on sound: inside an l-inf ball or above a signal-to-noise ratio, ending on 16-bit samples.

The descents are those of :mod:`attacks.evasion.pgd` (Madry et al., ICLR 2018) and :mod:`attacks.evasion.auto_pgd`
(Croce and Hein, ICML 2020); any other of :mod:`attacks.evasion` runs on waves as well, with ``bounds=(-1, 1)``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Unpack

from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import (
    Attack,
    AttackResult,
    Loss,
    RunOptions,
    away_or_towards,
    check_amounts,
    check_counts,
    check_radii,
    cross_entropy,
    get_norm,
    run,
)
from ..engine.waveforms import PCM16_BOUNDS, PCM16_LEVELS, Waveform, noise_ratio
from .auto_pgd import descent
from .pgd import projected_descent

Radii = tuple[float, ...]


def waveform_pgd(
    model: nn.Module,
    waves: Tensor,
    labels: Tensor,
    *,
    snr: float | Sequence[float] | None = None,
    epsilon: float | Sequence[float] | None = None,
    band: tuple[float, float] | None = None,
    sampling_rate: int = 16_000,
    steps: int = 100,
    step_size: float | None = None,
    random_start: bool = True,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each wave with projected gradient descent; what counts is what a 16-bit sound file holds of it.

    Give the budget as ``snr`` or as ``epsilon``. Under ``snr`` the change's l2 norm is bounded relative to that of the
    wave itself, and distances and radii are such ratios: 0.1 at 20 dB, see :func:`~attacks.engine.noise_ratio`.

    Args:
        model: maps waves to logits, shape ``[n, classes]``.
        waves: clean sound, float32, shape ``[n, ..., samples]``, in [-1, 32767/32768]: 16-bit samples over 32768.
        labels: their classes, int64, shape ``[n]``.
        snr: the least ratio of signal to noise in dB; several are tried from the highest down.
        epsilon: the largest change of a sample, on the scale of ``waves``; several are tried in ascending order.
        band: the lowest and highest frequency of the noise, in Hz; None: any. Rounding to 16 bits adds a trace of
            others, which is the larger a share of the noise the quieter the wave.
        sampling_rate: of the waves, samples a second; matters for a ``band``.
        steps: gradient steps, at least 1.
        step_size: length of a step, in the units of the radius; 2.5 * radius / steps unless given.
        random_start: begin at a random point of the ball rather than at the clean wave.
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`: targets, stop, restarts, budget, batch_size, diagnose, seed,
            generator, progress; ``levels=None`` leaves out the rounding to 16 bits, ``bounds`` moves the limits.

    Raises:
        InputError: when waves, labels or settings cannot be used as they are; for a silent wave under ``snr``.

    Example:
        >>> import torch
        >>> waves, labels = torch.tensor([[0.5, 0.25]]), torch.tensor([0])
        >>> result = waveform_pgd(nn.Identity(), waves, labels, snr=6, random_start=False)
        >>> result.success, result.adversarial * 32768
        (tensor([True]), tensor([[12165., 12411.]]))
    """
    check_counts(steps=steps)
    check_amounts(step_size=step_size)

    def method(norm: str) -> Attack:
        return partial(
            projected_descent,
            objective=away_or_towards(loss, options.get("targets")),
            norm=get_norm(norm),
            steps=steps,
            step_size=step_size,
            pace=2.5,
            random_start=random_start,
        )

    return _run(method, model, waves, labels, snr, epsilon, band, sampling_rate, options)


def waveform_auto_pgd(
    model: nn.Module,
    waves: Tensor,
    labels: Tensor,
    *,
    snr: float | Sequence[float] | None = None,
    epsilon: float | Sequence[float] | None = None,
    band: tuple[float, float] | None = None,
    sampling_rate: int = 16_000,
    steps: int = 100,
    loss: Loss = cross_entropy,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """Attack each wave with Auto-PGD, which has no step size to choose and is mostly the stronger of the two.

    Args:
        model: as in :func:`waveform_pgd`, and so are all others.
        waves: clean sound, shape ``[n, ..., samples]``.
        labels: their classes, int64, shape ``[n]``.
        snr: the least ratio of signal to noise in dB. Give this or ``epsilon``.
        epsilon: the largest change of a sample.
        band: the lowest and highest frequency of the noise, in Hz.
        sampling_rate: of the waves, samples a second.
        steps: gradient steps, at least 1.
        loss: what the attack raises at the labels, or lowers at the targets.
        **options: the settings of :func:`attacks.run`.

    Raises:
        InputError: as :func:`waveform_pgd`.

    Example:
        >>> import torch
        >>> waves, labels = torch.tensor([[0.5, 0.25]]), torch.tensor([0])
        >>> waveform_auto_pgd(nn.Identity(), waves, labels, snr=[20, 6]).success
        tensor([True])
    """

    def method(norm: str) -> Attack:
        return partial(descent(norm, steps), objective=away_or_towards(loss, options.get("targets")))

    return _run(method, model, waves, labels, snr, epsilon, band, sampling_rate, options)


def _run(
    method: Callable[[str], Attack],
    model: nn.Module,
    waves: Tensor,
    labels: Tensor,
    snr: float | Sequence[float] | None,
    epsilon: float | Sequence[float] | None,
    band: tuple[float, float] | None,
    sampling_rate: int,
    options: RunOptions,
) -> AttackResult:
    norm, radii = _budget(snr, epsilon)
    relative = norm == "l2"
    told: RunOptions = {"bounds": PCM16_BOUNDS, "levels": PCM16_LEVELS, **options}
    _check_waves(waves, relative, told["bounds"])
    perturbation = Waveform(told["bounds"], relative, band, sampling_rate)
    result = run(method(norm), model, waves, labels, norm=norm, epsilon=radii, perturbation=perturbation, **told)
    return replace(result, norm="relative l2") if relative else result


def _budget(
    snr: float | Sequence[float] | None, epsilon: float | Sequence[float] | None
) -> tuple[str, Sequence[float]]:
    """The norm and the radii in its units."""
    if epsilon is not None and snr is None:
        return "linf", check_radii(epsilon)
    if snr is None or epsilon is not None:
        raise InputError("Give one budget: snr= in dB, or epsilon= on the scale of the waves.")
    ratios = list(snr) if isinstance(snr, Sequence) and not isinstance(snr, str) else [snr]
    for ratio in ratios:
        if not isinstance(ratio, int | float) or not isfinite(ratio):
            raise InputError(f"snr={ratio!r} cannot be used: it must be a finite number of dB, such as 30.")
    return "l2", check_radii([noise_ratio(ratio) for ratio in ratios])


def _check_waves(waves: Tensor, relative: bool, bounds: tuple[float, float]) -> None:
    """What the check of all samples cannot know of sound."""
    if not isinstance(waves, Tensor) or waves.dim() < 2 or not len(waves):
        return
    if relative and bool((waves.flatten(1) == 0).all(1).any()):
        raise InputError("A wave is silent, so there is no ratio of signal to noise: leave it out, or give epsilon=.")
    if bounds == PCM16_BOUNDS and bounds[1] + 1e-6 < float(waves.max()) <= 1:
        raise InputError(
            "The waves go up to 1, but 16-bit sound ends at 32767/32768: clamp them with "
            "waves.clamp(max=32767 / 32768), or say bounds=(-1, 1), levels=None."
        )
