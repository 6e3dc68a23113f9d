"""The mapping that pairs source and target classes by how alike the model's features of them are."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from .one_to_one import OneToOne


@dataclass(frozen=True)
class Similarity(OneToOne):
    """Source classes whose outputs a target class raises most above the other target classes, found once, at the start.

    Source: after Yen et al., "Neural model reprogramming with similarity based mapping for low-resource spoken command
    recognition", Interspeech 2023, who compare mean features of source data with mean features of target data. Here the
    model's outputs on the target's samples are all that is known, so its last layer stands in for source data: a logit
    is the product of the features with the class's row of weights, so that a target class's mean logit of a source
    class says how much its mean features look like what the model knows that class by. Rows of unlike length, which
    cannot be seen from outside, are not made up for.

    The class means are taken from the mean of them all, without which the source classes that the model always leans
    to would win, scaled to length 1 and paired greedily. Target classes that were never seen get the lowest source
    classes that are left.

    Example:
        >>> import torch
        >>> outputs = torch.tensor([[9.0, 1.0, 3.0], [9.0, 2.0, 0.0]])
        >>> Similarity().find(outputs, torch.tensor([0, 1]), 2)["matrix"]
        tensor([[0., 0.],
                [0., 1.],
                [1., 0.]])
    """

    def find(self, outputs: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        """Greedy assignment of the mean outputs' directions."""
        members = functional.one_hot(labels, classes).to(outputs.dtype)
        counts = members.sum(0)
        means = (members / counts.clamp_min(1)).T @ outputs
        directions = functional.normalize(means - means[counts > 0].mean(0))
        return self.assign(directions.T.masked_fill(counts == 0, -2.0), "similarity")
