"""Recipes as grids, cells by their content, and tables with honest intervals."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks.engine import Rate
from attacks.errors import InputError
from tasks import experiments
from tasks.experiments import Cell, Recipe, Row, markdown, read_recipe, rows


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
    plain, told = recipe().cells()[0], recipe(base={"model": "m", "epochs": 5}, grid={"shots": [20]}).cells()[0]
    assert plain.settings["epochs"] == 5 and plain.id == told.id
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
    assert read_recipe("digits-mappings") == made


def test_a_file_of_ones_own_comes_before_a_recipe_that_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits-mappings").write_text("{version: 1, name: mine, job: reprogram, seeds: [0], base: {model: m}}")
    assert read_recipe("digits-mappings").name == "mine"


def done(name: str, labels: str, seed: int, right: int) -> tuple[Cell, dict[str, Rate]]:
    settings = {"labels": labels}
    return Cell("reprogram", settings, settings, seed), {name: Rate(right, 50), "majority": Rate(5, 50)}


def test_the_mean_is_over_seeds_and_the_interval_of_the_shared_samples() -> None:
    cells = [done("program", *cell) for cell in (("a", 0, 40), ("a", 1, 44), ("b", 0, 20), ("b", 1, 20))]
    first, second, last = rows(cells)
    assert (first.mean, first.lowest, first.highest) == pytest.approx((0.84, 0.8, 0.88))
    assert (first.seeds, first.n) == (2, 50)
    assert (first.low, first.high) == pytest.approx(Rate(42, 50).interval)
    assert (second.varied, second.mean, second.seeds) == ({"labels": "b"}, 0.4, 2)
    assert (last.rate, last.varied, last.mean) == ("majority", {}, 0.1)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 50), (1, 3), (42, 50), (50, 50), (499, 500)])
def test_of_one_seed_the_interval_is_the_rates_own(successes: int, n: int) -> None:
    rate = Rate(successes, n)
    row = Row.over("program", {}, [rate])
    assert (row.mean, row.low, row.high) == pytest.approx((rate.value, *rate.interval), abs=1e-12)


@given(st.integers(1, 60), st.lists(st.integers(0, 60), min_size=1, max_size=5))
def test_a_mean_lies_in_its_interval_and_moves_with_it(n: int, successes: list[int]) -> None:
    rates = [Rate(min(each, n), n) for each in successes]
    row = Row.over("program", {}, rates)
    assert 0 <= row.low <= row.mean <= row.high <= 1
    total = sum(rate.successes for rate in rates)
    if total < n * len(rates):  # one sample more, in one seed alone, already shows
        best = next(place for place, rate in enumerate(rates) if rate.successes < n)
        more = Row.over("program", {}, [*rates[:best], Rate(rates[best].successes + 1, n), *rates[best + 1 :]])
        assert more.mean > row.mean and more.low > row.low and more.high > row.high


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
