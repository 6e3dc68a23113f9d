"""Data sets that come with the dependencies."""

from hashlib import sha256

import numpy as np

from .pool import Pool


def digits() -> Pool:
    """Handwritten digits, 8 x 8 gray pixels, 1,797 of them, from scikit-learn.

    Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository (1998).

    Example:
        >>> digits().read(np.arange(2)).shape
        (2, 1, 8, 8)
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images / 16).astype(np.float32)[:, None]
    return Pool(
        labels=data.target.astype(np.int64),
        parts=np.full(len(images), "any"),
        fingerprints=[sha256(image.tobytes()).digest() for image in images],
        class_names=tuple(str(name) for name in data.target_names),
        read=lambda rows: images[rows],
    )


BUILT_IN = {"digits": digits}
"""By the name under which :func:`tasks.datasets.load_task` finds them; a new data set is one more line."""
