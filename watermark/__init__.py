"""Model watermarks: keyed triggers in a model, shown black-box by the owner's key."""

import sys

try:
    from attacks._sisters import check_sisters
except ModuleNotFoundError as error:
    if error.name not in {"attacks", "attacks._sisters"}:
        raise
    raise ImportError(
        f"watermark needs repromark's package attacks, but finds {sys.modules.get('attacks', 'nothing')} under that "
        "name: rename or remove what shadows it, start Python from another folder, or install repromark again."
    ) from error

check_sisters("watermark", needs=("attacks",))

from attacks.errors import RepromarkError

from .keys import OwnerKey
from .mark import Mark
from .schemes import EmbeddingReport, embed
from .statistics import matches_needed
from .verdict import Count, Verdict
from .verify import verify

__all__ = [
    "Count",
    "EmbeddingReport",
    "Mark",
    "OwnerKey",
    "Verdict",
    "embed",
    "load_ipython_extension",
    "matches_needed",
    "verify",
]


def load_ipython_extension(ipython: object) -> None:
    """Say that ``%load_ext watermark`` meant the notebook extension of that name.

    Raises:
        RepromarkError: always.
    """
    raise RepromarkError(
        "`%load_ext watermark` asks for the notebook extension `watermark` from PyPI, but this environment's watermark "
        "is repromark's package for model watermarks. The two cannot share one environment: install the extension in "
        "another one, or leave the line out."
    )
