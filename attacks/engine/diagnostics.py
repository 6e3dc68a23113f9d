"""Signs that attacks look weaker on a model than the model is: what is behind them is said in a sentence.

Croce and Hein's AutoAttack looks for such signs (ICML 2020, and the flags of its evaluation protocol); Carlini et al.,
"On evaluating adversarial robustness", 2019, and Athalye et al., "Obfuscated gradients give a false sense of
security", ICML 2018, explain them.
"""

from collections import Counter

from torch import Tensor

from .asks import Ask, Method
from .objectives import cross_entropy, untargeted
from .perturbations import Perturbation

RANDOM = 1e-4
"""The change of a logit between two looks at the same input from which a model counts as random."""
PROBABILITY = 1e-4
"""How far a row of probabilities may sum from 1."""

SENTENCES = {
    "random": (
        "{n} of {of} samples got other logits when they were sent again: the model is random, so gradients and "
        "accepted steps are noise. Attack the mean of many answers, and call a sample robust only over many judgements."
    ),
    "probabilities": (
        "{n} of {of} samples got non-negative answers that sum to 1: these look like probabilities, not logits. Losses "
        "saturate on them; hand over the model without its last softmax."
    ),
    "flat": (
        "{n} of {of} samples have a gradient of zero in every entry: gradient attacks cannot move them. Use a loss "
        "that does not saturate (dlr, margin) and an attack without gradients (square) before calling them robust."
    ),
    "cut": (
        "The model's own budget ended before the attack did: samples that stand were not tried to the end, and larger "
        "radii perhaps not at all. Raise the budget of its Access before calling them robust."
    ),
    "few": (
        "The model has {n} classes: the DLR loss needs 3, the targeted one 4, so cross-entropy and margin stand in."
    ),
}


def diagnosis(x: Tensor, perturbation: Perturbation, signs: Counter[str], *, gradient: bool = True) -> Method[None]:
    """Look at each clean sample twice, once with its gradient, and count what is suspicious.

    Args:
        x: clean samples, shape ``[n, ...]``.
        perturbation: what the attack moves.
        signs: counts by the names of :data:`SENTENCES`, and samples looked at under "of"; added to.
        gradient: whether the model can be asked for one.
    """
    start = perturbation.start(x)
    first = yield Ask(start, untargeted(cross_entropy), gradient=gradient, probe=True)
    again = yield Ask(start, probe=True)
    heard = first.logits.abs().sum(1) > 0
    drift = (first.logits - again.logits).abs().amax(1) > RANDOM * first.logits.abs().amax(1).clamp_min(1)
    sums = (first.logits.sum(1) - 1).abs() <= PROBABILITY
    likely = sums & (first.logits >= 0).all(1)
    found = {"random": drift, "probabilities": likely}
    if gradient:  # a model that is sure beyond float32 has none either way: the loss's fault, and just as flat
        found["flat"] = (first.slope().flatten(1) == 0).all(1) & heard
    signs["of"] += len(x)
    for name, rows in found.items():
        signs[name] += int(rows.sum())
    signs["few"] = first.logits.shape[1] if first.logits.shape[1] < 4 else 0


def sentences(signs: Counter[str]) -> tuple[str, ...]:
    """What was found, one sentence a sign; nothing where all is well.

    Example:
        >>> sentences(Counter(of=8))
        ()
        >>> sentences(Counter(of=8, flat=2))[0][:49]
        '2 of 8 samples have a gradient of zero in every e'
    """
    return tuple(text.format(n=signs[name], of=signs["of"]) for name, text in SENTENCES.items() if signs[name])
