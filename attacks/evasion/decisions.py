"""How decision-based attacks are run: from starts that the user may have, keeping the nearest success."""

from functools import partial
from numbers import Real
from typing import Unpack

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import Attack, AttackResult, RunOptions, check_counts, check_samples, device_of, get_norm, run

QUERIES = 5000
"""What a sample costs, about, where neither the steps nor a budget are said."""


def check_frequencies(frequencies: float) -> None:
    """Refuse a share of the frequencies that is not one.

    Raises:
        InputError: outside (0, 1].
    """
    if not isinstance(frequencies, Real) or not 0 < frequencies <= 1:
        raise InputError(f"frequencies={frequencies!r} cannot be used: it must be a number above 0 and up to 1, all.")


def check_starts(starts: Tensor, x: Tensor, bounds: tuple[float, float]) -> None:
    """Refuse starts that are no inputs, one for each sample.

    Raises:
        InputError: for a wrong shape, dtype or range.
    """
    if not isinstance(starts, Tensor) or starts.shape != x.shape:
        came = f"in shape {tuple(starts.shape)}" if isinstance(starts, Tensor) else f"as a {type(starts).__name__}"
        raise InputError(
            f"starts came {came} but must be a tensor of shape {tuple(x.shape)}, one input for each sample."
        )
    try:
        check_samples(starts, torch.zeros(len(starts), dtype=torch.int64, device=starts.device), None, bounds)
    except InputError as error:
        raise InputError(f"These starts cannot be used. {error}") from error


def run_decisions(
    method: Attack,
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    norm: str,
    starts: Tensor | None,
    **options: Unpack[RunOptions],
) -> AttackResult:
    """:func:`attacks.run`, keeping the nearest success, with each batch told the part of ``starts`` that is its own.

    Raises:
        InputError: when samples, starts or settings cannot be used as they are.
    """
    bounds, rank = options.get("bounds", (0.0, 1.0)), get_norm(norm).size
    method = partial(method, norm=get_norm(norm), bounds=bounds)
    if starts is None:
        return run(partial(method, starts=None), model, x, labels, norm=norm, rank=rank, **options)
    targets, size = options.get("targets"), options.pop("batch_size", None)
    check_samples(x, labels, targets, bounds)
    check_starts(starts, x, bounds)
    check_counts(batch_size=size)
    if options.get("generator") is None:  # one for all batches, as run would have it
        options["generator"] = torch.Generator(device_of(model, x)).manual_seed(options.get("seed", 0))
    parts = []
    for rows in torch.arange(len(x), device=x.device).split(size or len(x)):
        options["targets"] = None if targets is None else targets[rows]
        told = partial(method, starts=starts.to(x.device)[rows])
        parts.append(run(told, model, x[rows], labels[rows], norm=norm, rank=rank, **options))
    return AttackResult.join(parts)
