"""Target tasks, baselines, experiments, reports and the command line."""

import sys

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
