"""One way to name any task: a built-in data set, a folder of images or an ``.npz`` file."""

import os
from difflib import get_close_matches
from pathlib import Path

from attacks.errors import InputError

from .arrays import arrays
from .builtin import BUILT_IN
from .folder import folder
from .pool import Pool, split
from .task import Task


def load_task(
    source: str | os.PathLike[str],
    *,
    shots: int | None = 20,
    seed: int = 0,
    test: int = 500,
    validation: int = 200,
    size: int | None = None,
) -> Task:
    """Load a classification task with few labelled samples.

    The test set is the same for every seed. The shots, and the validation samples after them, are drawn per seed from
    what is left; samples that repeat the test's or each other are passed over with a warning.

    Args:
        source: "digits" (scikit-learn's, 8 x 8 gray); or a folder with one sub-folder of images a class, at will inside
            ``train``, ``validation`` and ``test``; or an ``.npz`` file with ``x, y`` or ``x_train, y_train, x_test,
            y_test`` (uint8 images or floats in [0, 1], integer labels, at will ``class_names``).
        shots: training samples of each class; None: all that are left.
        seed: of the shots.
        test: the most test samples; without a test part of its own, at most a third of the data set.
        validation: the most validation samples; they cost labels too, so say how many there were.
        size: height and width to resize a folder's images to; None: they have one size.

    Returns:
        The task, its name that of the data set.

    Raises:
        InputError: there is no such data set, or it cannot give such a task; the sentence says what to do.

    Example:
        >>> task = load_task("digits", shots=5, seed=1)
        >>> task.to_dict()
        {'name': 'digits', 'classes': 10, 'shape': [1, 8, 8], 'train': 50, 'validation': 200, 'test': 500}
    """
    name, pool = _pool(source, size)
    return split(name, pool, shots=shots, seed=seed, test=test, validation=validation)


def _pool(source: str | os.PathLike[str], size: int | None) -> tuple[str, Pool]:
    path = Path(source)
    if size is not None and (size < 1 or source in BUILT_IN or not path.is_dir()):
        raise InputError(f"size={size}: it resizes the images of a folder and is at least 1; leave it out otherwise.")
    if source in BUILT_IN:
        return str(source), BUILT_IN[str(source)]()
    if path.is_dir():
        return path.resolve().name, folder(path, size)
    if path.is_file() and path.suffix == ".npz":
        return path.stem, arrays(path)
    near = get_close_matches(str(source), BUILT_IN, n=1)
    raise InputError(
        f"There is no task {str(source)!r}{f'; did you mean {near[0]!r}? Give' if near else ': give'} "
        f"{' or '.join(map(repr, BUILT_IN))}, a folder with one sub-folder of images a class, or an .npz file."
    )
