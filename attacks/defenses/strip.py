"""STRIP: a trigger still decides when the sample is blended with others, so the model's answers hardly vary.

Gao et al., "STRIP: a defence against trojan attacks on deep neural networks", ACSAC 2019.
"""

import torch
from torch import Tensor, nn

from attacks.errors import InputError

from ..engine import check_counts, device_of, frozen, logits_of


@torch.no_grad()
def strip_entropy(
    model: nn.Module,
    x: Tensor,
    overlays: Tensor,
    *,
    blends: int = 100,
    weight: float = 0.5,
    batch_size: int = 256,
    seed: int = 0,
) -> Tensor:
    """Mean entropy of a model's answers to each sample blended with others: low where a trigger decides.

    Clean samples give the scale: a threshold at their 1st percentile, say, takes 1 % of them for triggered.

    Args:
        model: maps inputs to logits, shape ``[n, classes]``.
        x: samples to judge, float32, shape ``[n, ...]``.
        overlays: clean samples to blend with, shape ``[m, ...]``.
        blends: overlays for each sample, drawn with replacement.
        weight: of the overlay in a blend, in (0, 1); the sample has the rest, so a blend of valid inputs is one.
        batch_size: inputs in one forward pass.
        seed: of the overlays drawn.

    Returns:
        Entropies in bits, from 0 to log2(classes), shape ``[n]``; each the mean over the blends of the entropy *over
        classes* of one answer.

    Raises:
        InputError: when shapes do not match or a setting is out of range.

    Example:
        >>> unsure = nn.Linear(3, 4)
        >>> _ = unsure.load_state_dict({"weight": torch.zeros(4, 3), "bias": torch.zeros(4)})
        >>> strip_entropy(unsure, torch.rand(2, 3), torch.rand(5, 3))
        tensor([2., 2.])
    """
    check_counts(blends=blends, batch_size=batch_size)
    if not 0 < weight < 1:
        raise InputError(f"weight={weight!r} cannot be used: it is the share of the overlay in a blend, from 0 to 1.")
    if x.shape[1:] != overlays.shape[1:] or not len(overlays):
        raise InputError(
            f"Samples of shape {tuple(x.shape[1:])} cannot be blended with overlays {tuple(overlays.shape)}: give at "
            "least one overlay of the samples' shape."
        )
    device, draws = device_of(model, x), torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(overlays), (len(x), blends), generator=draws)
    entropies = []
    with frozen(model):
        for pairs in torch.cartesian_prod(torch.arange(len(x)), torch.arange(blends)).split(batch_size):
            rows = pairs[:, 0].to(x.device)
            others = overlays[chosen[pairs[:, 0], pairs[:, 1]].to(overlays.device)].to(x)
            logits = logits_of(model, ((1 - weight) * x[rows] + weight * others).to(device))
            entropies.append(torch.special.entr(logits.double().softmax(1)).sum(1).cpu())
    bits = torch.cat(entropies) / torch.log(torch.tensor(2.0, dtype=torch.float64))
    return bits.reshape(len(x), blends).mean(1).float()
