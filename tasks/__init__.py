"""Target tasks, baselines, experiments, reports and the command line."""

import os
import sys

# Before torch is loaded: its threads then sleep while they wait for each other. By default they spin, and on a machine
# that has other work to do as well, that makes everything several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

try:
    from attacks._sisters import check_sisters
except ModuleNotFoundError as error:
    if error.name not in {"attacks", "attacks._sisters"}:
        raise
    raise ImportError(
        f"tasks needs repromark's package attacks, but finds {sys.modules.get('attacks', 'nothing')} under that "
        "name: rename or remove what shadows it, start Python from another folder, or install repromark again."
    ) from error

# A foreign reprog or watermark only warns here, so that `repromark doctor` still runs and can tell.
check_sisters("tasks", needs=("attacks",))
