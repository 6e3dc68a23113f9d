"""Losses of logits and classes, and the two ways to turn one into what an attack lowers."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from attacks.errors import InputError

from .asks import Objective, View

Loss = Callable[[Tensor, Tensor], Tensor]
"""``loss(logits [n, classes], classes [n]) -> [n]``: low when the model is sure of these classes."""


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of each row, in nats, shape ``[n]``.

    Example:
        >>> cross_entropy(torch.zeros(1, 2), torch.tensor([0]))
        tensor([0.6931])
    """
    return functional.cross_entropy(logits, classes, reduction="none")


def margin(logits: Tensor, classes: Tensor) -> Tensor:
    """The best other logit minus the logit of the given class, shape ``[n]``: negative when the class wins.

    Source: Carlini and Wagner, "Towards evaluating the robustness of neural networks", S&P 2017, f6 without its floor.

    Example:
        >>> margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
        tensor([-1.])
    """
    own = logits.gather(1, classes[:, None]).squeeze(1)
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return others.amax(1) - own


def dlr(logits: Tensor, classes: Tensor) -> Tensor:
    """Difference of logits ratio: :func:`margin` over the gap from the first to the third logit, shape ``[n]``.

    Does not change when logits are scaled or shifted, so it cannot vanish in a saturated softmax.
    Source: Croce and Hein, "Reliable evaluation of adversarial robustness", ICML 2020, equation 6 (sign turned, so that
    low means that the model is sure of the class).

    Raises:
        InputError: with fewer than three classes, where there is no third logit.

    Example:
        >>> dlr(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
        tensor([-0.5000])
    """
    if logits.shape[1] < 3:
        raise InputError(
            f"The DLR loss needs at least 3 classes, but the model has {logits.shape[1]}: use cross_entropy or margin."
        )
    ranked = logits.topk(3, dim=1).values
    return margin(logits, classes) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The label's logit minus the target's, over the gap from the best to the mean of third and fourth, shape ``[n]``.

    Lower is better for who wants the target. Source: Croce and Hein, ICML 2020, equation 7, its sign turned.

    Raises:
        InputError: with fewer than four classes.

    Example:
        >>> targeted_dlr(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([0]), torch.tensor([1]))
        tensor([0.4000])
    """
    if logits.shape[1] < 4:
        raise InputError(
            f"The targeted DLR loss needs at least 4 classes, but the model has {logits.shape[1]}: use cross_entropy "
            "or margin."
        )
    ranked = logits.topk(4, dim=1).values
    own, other = (logits.gather(1, classes[:, None]).squeeze(1) for classes in (labels, targets))
    return (own - other) / (ranked[:, 0] - ranked[:, 2:].mean(1) + 1e-12)


def untargeted(loss: Loss) -> Objective:
    """Move away from the samples' own labels: lowers ``-loss(logits, labels)``."""

    def objective(view: View) -> Tensor:
        return -loss(view.logits, view.batch.labels)

    return objective


def targeted(loss: Loss) -> Objective:
    """Move towards the targets of the run: lowers ``loss(logits, targets)``."""

    def objective(view: View) -> Tensor:
        if view.batch.targets is None:
            raise InputError("A targeted objective came without targets: hand the classes to reach over as targets=.")
        return loss(view.logits, view.batch.targets)

    return objective


def away_or_towards(loss: Loss, targets: Tensor | None) -> Objective:
    """What a run with these targets lowers: towards them, or away from the labels where there are none.

    Raises:
        InputError: for a loss that cannot be called, such as its name.
    """
    if not callable(loss):
        raise InputError(
            f"loss={loss!r} cannot be called: hand over the function, such as attacks.cross_entropy, attacks.margin or "
            "attacks.dlr."
        )
    return untargeted(loss) if targets is None else targeted(loss)


def missed_or_hit(logits: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
    """Whether a run with these targets has reached its goal, bool, shape ``[n]``; never where a logit is NaN.

    Example:
        >>> missed_or_hit(torch.tensor([[0.0, 1.0]]), torch.tensor([0]), None)
        tensor([True])
    """
    predicted = logits.argmax(1)
    reached = predicted != labels if targets is None else predicted == targets
    return reached & ~logits.isnan().any(1)
