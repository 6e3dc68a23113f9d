"""Whether the names ``attacks``, ``reprog``, ``watermark`` and ``tasks`` lead to repromark's own four packages.

The names are generic, and PyPI has a notebook extension called ``watermark``. So each of the four asks on import,
without importing the others, where Python would find them.
"""

import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SISTERS = ("attacks", "reprog", "watermark", "tasks")
HOME = Path(__file__).resolve().parent.parent


def check_sisters(package: str, needs: tuple[str, ...] = ()) -> None:
    """Refuse or warn when something else stands under the name of one of the four packages.

    Args:
        package: the package that is being imported.
        needs: the sisters that it cannot work without; a foreign one of these is an error, any other a warning.

    Raises:
        ImportError: a needed sister is not ours; the sentence names what stands in its place and the way out.

    Example:
        >>> check_sisters("reprog", needs=("attacks",))
    """
    for name in SISTERS:
        sentence = shadow(name)
        if sentence and name in needs:
            raise ImportError(f"{package} cannot be imported. {sentence}", name=name)
        if sentence:
            _warn_once(sentence)


@cache
def _warn_once(sentence: str) -> None:
    """However many of the four are imported; Python's own memory of what it showed does not outlive torch's import."""
    warnings.warn(sentence, stacklevel=1)


def shadow(name: str) -> str | None:
    """What stands in the place of our package ``name``, as a sentence; None when the name leads to ours.

    Ours lies in the folder of this one and makes the same check. The second half matters: another distribution
    installed into the same folder replaces single files of ours.

    Example:
        >>> shadow("attacks") is None
        True
    """
    spec = find_spec(name)
    if spec is None:
        return f"repromark's package {name} is missing beside {HOME / 'attacks'}: install repromark again."
    origin = Path(spec.origin or next(iter(spec.submodule_search_locations or ()), "")).resolve()
    if origin == HOME / name / "__init__.py" and "check_sisters" in origin.read_text(encoding="utf-8"):
        return None
    if HOME / name in (origin, origin.parent):
        return f"The files of {name} in {HOME / name} are not repromark's any more: {_remedy(name, installed=True)}"
    remedy = _remedy(name, installed="site-packages" in origin.parts)
    return f"The name {name} leads to {origin} instead of repromark's package in {HOME / name}: {remedy}"


def _remedy(name: str, *, installed: bool) -> str:
    if not installed:
        return "rename that file or folder, start Python from another folder, or take its folder off PYTHONPATH."
    other = "the notebook extension `watermark` from PyPI" if name == "watermark" else f"one that brings {name}"
    return (
        f"another distribution did that, most likely {other}. The two cannot share one environment: "
        "uninstall that one and install repromark again, or use a second environment."
    )
