"""Recipes as grids, cells by their content, and tables with honest intervals."""

from pathlib import Path

import pytest

from attacks.engine import Rate
from attacks.errors import InputError
from tasks import experiments
from tasks.experiments import Cell, Recipe, markdown, read_recipe, rows


def recipe(**changed: object) -> Recipe:
    given = {"name": "r", "job": "reprogram", "base": {"model": "m"}, "grid": {}, "seeds": (0,)}
    return Recipe(**{**given, **changed})  # type: ignore[arg-type]


def test_cells_are_the_product_of_grid_and_seeds() -> None:
    cells = recipe(grid={"labels": ["ilm", "blm+"], "epochs": [1, 2]}, seeds=(0, 3)).cells()
    assert [str(cell) for cell in cells[:3]] == [
        "labels ilm, epochs 1, seed 0", "labels ilm, epochs 1, seed 3", "labels ilm, epochs 2, seed 0"
    ]  # fmt: skip
    assert len({cell.id for cell in cells}) == len(cells) == 8


def test_a_cell_is_known_by_its_settings_and_not_by_how_they_are_written() -> None:
    plain, told = recipe().cells()[0], recipe(base={"model": "m", "epochs": 20}, grid={"shots": [20]}).cells()[0]
    assert plain.settings["epochs"] == 20 and plain.id == told.id
    assert (
        len({recipe(base={"model": "m", "epochs": n}, seeds=(s,)).cells()[0].id for n in (1, 2) for s in (0, 1)}) == 4
    )


def test_a_cell_is_known_by_the_files_it_names_too(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    task, weights = tmp_path / "task.npz", tmp_path / "model" / "weights"
    base = {"model": str(tmp_path / "model"), "task": str(task)}

    def name() -> str:
        return recipe(base=base).cells()[0].id

    task.write_text("samples")
    weights.write_text("weights")
    first = name()
    task.write_text("samples")
    assert name() == first
    task.write_text("swapped")
    second = name()
    weights.write_text("changed")
    third = name()
    weights.rename(weights.with_name("other"))
    assert len({first, second, third, name()}) == 4


def test_another_release_makes_other_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    first = recipe().cells()[0].id
    monkeypatch.setattr("tasks.experiments.recipe.release", lambda: "99")
    assert recipe().cells()[0].id != first


def test_settings_may_be_spelled_with_dashes(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("{version: 1, name: r, job: reprogram, seeds: [0], base: {model: m, image-size: 64}}")
    assert read_recipe(path).cells()[0].settings["image_size"] == 64


def test_values_have_the_types_of_the_options() -> None:
    with pytest.raises(InputError, match="--shots is 1.5, but must be an int or null"):
        recipe(base={"model": "m", "shots": 1.5}).cells()


def test_the_recipe_that_comes_along_can_be_read() -> None:
    made = read_recipe(Path(experiments.__file__).parent / "digits-mappings.yaml")
    assert made.name == "digits-mappings" and len(made.cells()) == 8


def done(name: str, labels: str, seed: int, right: int) -> tuple[Cell, dict[str, Rate]]:
    settings = {"labels": labels}
    return Cell("reprogram", settings, settings, seed), {name: Rate(right, 50), "majority": Rate(5, 50)}


def test_the_mean_is_over_seeds_and_the_interval_of_the_shared_samples() -> None:
    cells = [done("program", *cell) for cell in (("a", 0, 40), ("a", 1, 44), ("b", 0, 20), ("b", 1, 20))]
    first, second, last = rows(cells)
    assert (first.mean, first.lowest, first.highest) == pytest.approx((0.84, 0.8, 0.88))
    assert (first.seeds, first.n) == (2, 50)
    assert (first.low, first.high) == Rate(42, 50).interval
    assert (second.varied, second.mean, second.seeds) == ({"labels": "b"}, 0.4, 2)
    assert (last.rate, last.varied, last.mean) == ("majority", {}, 0.1)


def test_the_first_rate_keeps_its_rows_even_where_all_are_equal() -> None:
    made = rows([done("program", "a", 0, 40), done("program", "b", 0, 40)])
    assert [(row.rate, row.varied.get("labels")) for row in made] == [
        ("program", "a"),
        ("program", "b"),
        ("majority", None),
    ]


def test_the_table_reads_as_markdown() -> None:
    text = markdown("mine", rows([done("linear_probe", "a|b", 0, 40), done("linear_probe", "c", 0, 20)]))
    lines = text.splitlines()
    assert lines[0] == "# mine" and lines[2].startswith("| labels | rate | mean, 95 % interval | n |")
    assert lines[4] == "| a\\|b | linear probe | 0.800 [0.670, 0.888] | 50 | 1 | 0.800 | 0.800 |"
    assert lines[6].startswith("| any | majority | 0.100")
