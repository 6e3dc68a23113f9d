"""Spectral signatures: poisoned samples of a class lie along the direction in which its features vary most.

Tran et al., "Spectral signatures in backdoor attacks", NeurIPS 2018.
"""

import torch
from torch import Tensor

from attacks.errors import InputError


def spectral_scores(features: Tensor, labels: Tensor) -> Tensor:
    """How far each sample lies from its class along the class's first principal direction, squared.

    The features are centred in each class, for the direction and for the scores alike: a shift towards the origin
    stands out as much as one away from it. The paper drops the samples with the highest scores in each class, 1.5 times
    as many as are thought to be poisoned.

    Args:
        features: of a late layer, shape ``[n, ...]``, flattened.
        labels: the classes that the samples are labelled with, int64, shape ``[n]``.

    Returns:
        Scores of at least 0, shape ``[n]``, to be compared inside a class; 0 for a class of one sample.

    Raises:
        InputError: when there is not one label for each sample, or features are not finite.

    Example:
        >>> features = torch.tensor([[0.0, 0.1], [0.1, 0.0], [0.0, -0.1], [-3.0, 0.0]])
        >>> spectral_scores(features, torch.zeros(4, dtype=torch.int64)).argmax()
        tensor(3)
    """
    flat = features.detach().flatten(1).double()
    if labels.shape != flat.shape[:1]:
        raise InputError(f"{len(flat)} samples came with labels of shape {tuple(labels.shape)}: give one for each.")
    if not bool(flat.isfinite().all()):
        raise InputError("The features hold NaN or infinity: look at the layer that they come from.")
    scores = flat.new_zeros(len(flat))
    for label in labels.unique():
        rows = (labels == label).nonzero().squeeze(1)
        centred = flat[rows] - flat[rows].mean(0)
        scores[rows] = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]) ** 2
    return scores.float()
