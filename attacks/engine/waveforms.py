"""Perturbations of sound: budgets relative to each wave's own level, bands of frequencies, 16-bit samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.errors import InputError

from .asks import Parameters
from .checks import check_counts
from .constraints import TINY, per_sample
from .perturbations import as_tensor

PCM16_BOUNDS = (-1.0, 1 - 2.0**-15)
"""The smallest and largest sample of 16-bit sound, as k / 32768 for k from -32768 to 32767.

A run with these ``bounds`` and ``levels=PCM16_LEVELS`` ends on waves that a 16-bit file holds bit for bit.
"""

PCM16_LEVELS = 2**16


@dataclass(frozen=True)
class Waveform:
    """``x + p`` for each wave, on request in units of the wave's own length, and inside a band of frequencies.

    With a band, ``p`` loses all other frequencies first, by its Fourier transform over the whole wave. That makes no l2
    norm larger, but peaks may grow; unless the budget is relative, the result is scaled back to the peak of ``p``, so
    that an l-inf ball holds as well. What is then cut off at the bounds, and rounding to 16 bits, put a trace of other
    frequencies back in.

    Attributes:
        bounds: the smallest and largest valid entry.
        relative: whether ``p`` and distances are in units of the wave's l2 norm, so that a radius of
            ``noise_ratio(30)`` in l2 is a signal-to-noise ratio of 30 dB.
        band: the lowest and the highest frequency that may change, in Hz; None: any.
        sampling_rate: samples a second, to tell frequencies by.

    Raises:
        InputError: for a band that does not lie between 0 and half the sampling rate.

    Example:
        >>> x = torch.tensor([[0.3, -0.4, 0.0, 0.0]])
        >>> Waveform(relative=True)(x, torch.tensor([[0.0, 0.0, 0.1, 0.0]]))
        tensor([[ 0.3000, -0.4000,  0.0500,  0.0000]])
    """

    bounds: tuple[float, float] = PCM16_BOUNDS
    relative: bool = False
    band: tuple[float, float] | None = None
    sampling_rate: int = 16_000
    shared: bool = False

    def __post_init__(self) -> None:
        check_counts(sampling_rate=self.sampling_rate)
        if self.band is not None and not 0 <= self.band[0] < self.band[1] <= self.sampling_rate / 2:
            raise InputError(
                f"band={self.band} cannot be used: give the lowest and the highest frequency in Hz, between 0 and half "
                f"the sampling rate of {self.sampling_rate}."
            )

    def unit(self, x: Tensor) -> Tensor:
        """The length of a change that counts as 1, shape ``[n]``: the wave's l2 norm, or 1."""
        return x.flatten(1).norm(dim=1).clamp_min(TINY) if self.relative else x.new_ones(len(x))

    def start(self, x: Tensor) -> Tensor:
        """Zeros: the clean waves."""
        return torch.zeros_like(x)

    def __call__(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The changed waves, shape ``[n, ..., samples]``; cut off at the bounds only where there is a band."""
        p = as_tensor(parameters)
        if self.band is None:
            return x + self._scaled(x, p)
        return (x + self._scaled(x, self._filtered(p, *self.band))).clamp(*self.bounds)

    def clip(self, x: Tensor, parameters: Parameters) -> Tensor:
        """The nearest ``p`` with ``x + p`` inside the bounds; with a band, no further than the bounds are apart."""
        low, high = self.bounds
        unit = per_sample(self.unit(x), x)
        if self.band is None:
            return as_tensor(parameters).clamp((low - x) / unit, (high - x) / unit)
        width = (high - low) / unit
        return as_tensor(parameters).clamp(-width, width)

    def _scaled(self, x: Tensor, p: Tensor) -> Tensor:
        return per_sample(self.unit(x), x) * p if self.relative else p

    def _filtered(self, p: Tensor, low: float, high: float) -> Tensor:
        kept = in_band(p, low, high, sampling_rate=self.sampling_rate)
        if self.relative:
            return kept
        peak, before = kept.detach().flatten(1).abs().amax(1), p.detach().flatten(1).abs().amax(1)
        return kept * per_sample((before / peak.clamp_min(TINY)).clamp_max(1), p)


def in_band(waves: Tensor, low: float, high: float, *, sampling_rate: int) -> Tensor:
    """The part of waves between two frequencies, both included: the nearest waves with no others, in l2.

    Args:
        waves: shape ``[..., samples]``; taken as one period.
        low: in Hz.
        high: in Hz.
        sampling_rate: samples a second.

    Raises:
        InputError: when waves of this length have no frequency in the band.

    Example:
        >>> in_band(torch.tensor([2.0, 0.0, 2.0, 0.0]), 0, 1, sampling_rate=4)
        tensor([1., 1., 1., 1.])
    """
    samples = waves.shape[-1]
    frequencies = torch.fft.rfftfreq(samples, 1 / sampling_rate, dtype=torch.float64)
    inside = (frequencies >= low) & (frequencies <= high)
    if not bool(inside.any()):
        raise InputError(
            f"A wave of {samples} samples at {sampling_rate} Hz has no frequency from {low:g} to {high:g} Hz: its "
            f"frequencies are {sampling_rate / samples:g} Hz apart. Widen the band."
        )
    return torch.fft.irfft(torch.fft.rfft(waves) * inside.to(waves.device), n=samples)


def noise_ratio(snr: float) -> float:
    """The l2 norm of a noise over that of the signal, at a signal-to-noise ratio in dB.

    Example:
        >>> noise_ratio(20)
        0.1
    """
    return float(10 ** (-snr / 20))


def signal_to_noise(clean: Tensor, changed: Tensor) -> Tensor:
    """The ratio of signal to change in dB, shape ``[n]``; infinite where nothing changed.

    Args:
        clean: shape ``[n, ...]``.
        changed: likewise.

    Example:
        >>> signal_to_noise(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.1]]))
        tensor([20.])
    """
    signal, noise = (part.flatten(1).norm(dim=1) for part in (clean, changed - clean))
    return 20 * (signal / noise).log10()
