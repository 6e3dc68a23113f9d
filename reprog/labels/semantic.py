"""Groups of source classes by what their names mean, before any sample is seen."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from attacks.errors import InputError

from .many_to_one import ManyToOne
from .mapping import check_sources
from .one_to_one import assign_greedily

Encoder = Callable[[list[str]], Tensor | np.ndarray]
"""``encode(texts) -> vectors [len(texts), width]`` whose cosines say how alike texts are."""


def semantic(
    source_names: Sequence[str] | None,
    target_names: Sequence[str],
    encode: Encoder,
    *,
    per_class: int = 1,
    scale: float | None = None,
    temperature: float | None = 1.0,
) -> ManyToOne:
    """Match target classes to the source classes whose names mean nearly the same; no sample is needed.

    The groups and weights that come out are plain numbers, so that a program is saved, loaded and trained again without
    the encoder.

    Args:
        source_names: of the source model's classes, in the order of its outputs, such as ``model.class_names``.
        target_names: of the target task's classes, in order.
        encode: a text encoder, for instance a CLIP-like model's text tower or a sentence encoder. The names are handed
            to it as they are: put them into a phrase there ("a photo of a ...") if it wants one.
        per_class: source classes for each target class; at least 1.
        scale: None gives each target class sources of its own, the most similar pair of all first, with equal weights.
            A number, above 0, gives each its most similar ones, which others may have as well, weighed by
            ``softmax(scale * cosine)``; CLIP's own scale is 100.
        temperature: of the mapping, see :class:`ManyToOne`.

    Raises:
        InputError: for missing names, vectors that cannot be compared, settings out of range, or too few source classes
            for each target class to have its own.

    Example:
        >>> meanings = {"cat": (1.0, 0.0), "kitten": (0.9, 0.1), "van": (0.0, 1.0), "lorry": (0.1, 0.9)}
        >>> encode = lambda texts: torch.tensor([meanings[text] for text in texts])
        >>> semantic(["van", "cat"], ["kitten", "lorry"], encode).groups
        ((1,), (0,))
    """
    if not isinstance(per_class, int) or per_class < 1 or not (scale is None or 0 < scale < float("inf")):
        raise InputError(f"per_class={per_class} must be a whole number from 1 up, scale={scale} one above 0 or None.")
    if source_names is None:
        raise InputError(
            "The source model does not say its classes' names (class_names is None): pass them, or use a mapping that "
            "is found from samples, such as 'bayesian_plus'."
        )
    similar = _vectors(source_names, encode, "source") @ _vectors(target_names, encode, "target").T
    if scale is None:
        check_sources(len(similar), per_class * len(target_names), "semantic")
        own = assign_greedily(similar, per_class) > 0
        return ManyToOne(tuple(tuple(column.nonzero().flatten().tolist()) for column in own.T), temperature=temperature)
    cosines, closest = similar.topk(min(per_class, len(similar)), dim=0)
    weights = (scale * cosines).softmax(0)
    return ManyToOne(tuple(map(tuple, closest.T.tolist())), tuple(map(tuple, weights.T.tolist())), temperature)


def _vectors(names: Sequence[str], encode: Encoder, which: str) -> Tensor:
    """Unit vectors, float32, shape ``[names, width]``, on the CPU."""
    if isinstance(names, str) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError(f"The {which} names must be a list of words, one for each class, and none of them empty.")
    vectors = torch.as_tensor(encode(list(names))).detach().cpu().float()
    if vectors.dim() != 2 or len(vectors) != len(names):
        raise InputError(
            f"The encoder answers {len(names)} {which} names with shape {tuple(vectors.shape)}, but must give one "
            "vector each: pool its tokens first."
        )
    if not vectors.isfinite().all() or not vectors.norm(dim=1).gt(0).all():
        raise InputError(f"The encoder's vectors of the {which} names hold NaN, infinity or nothing but zeros.")
    return functional.normalize(vectors)
