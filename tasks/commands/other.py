"""``repromark demo``, ``doctor`` and ``run``."""

from ..files import make_folder
from .outcome import Outcome


def demo(*, out: str = "runs/demo", seed: int = 0, device: str = "cpu", progress: bool = False) -> Outcome:
    """Reprogram a frozen network to read digits, mark a classifier and find the mark, make a robustness card, report.

    Args:
        out: folder for the report (report.html) and all that it shows.
        seed: of the labelled samples and of all training.
        device: cpu, cuda, mps or auto.
        progress: say what happens.

    Returns:
        The results.
    """
    from ..demo import demo as play

    results = play(out=str(make_folder(out)), seed=seed, device=device, progress=progress)
    return Outcome({name: value for name, value in results.items() if name != "text"}, results["text"])


def doctor(*, fix: bool = False) -> Outcome:
    """Look whether this installation is sound; exit code 1 when it is not.

    Args:
        fix: first set torchaudio's compiled libraries aside, if they need a CUDA that torch lacks.

    Returns:
        The findings.
    """
    from ..doctor import doctor as look

    found = look(fix=fix)
    data = {name: value for name, value in found.items() if name != "text"}
    return Outcome(data, found["text"], code=0 if found["sound"] else 1)


def run(recipe: str, *, out: str | None = None, seed: int | None = None, device: str = "cpu") -> Outcome:
    """Run a recipe: every cell of a grid of settings and seeds, skipping those that are done.

    Args:
        recipe: the recipe: a YAML file, or the name of one that comes along, such as digits-mappings.
        out: folder for the cells and the table; by default runs/ and the recipe's name.
        seed: run this seed alone, in place of the recipe's.
        device: cpu, cuda, mps or auto.

    Returns:
        The table.
    """
    from ..experiments import read_recipe, run_recipe

    plan = read_recipe(recipe)
    return run_recipe(plan, out=out or f"runs/{plan.name}", seed=seed, device=device)
