"""The benchmark of attacks: exact counts, one judge, paired times, and rows of what was asked for."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attacks import evasion
from attacks.engine import AttackResult
from tasks import cli
from tasks.benchmarks import attacks, bare, benchmark, measuring
from tasks.benchmarks.architectures import strided
from tasks.benchmarks.cells import Cell, CellError, measure_apart, measure_cell
from tasks.benchmarks.counting import Counted
from tasks.benchmarks.judge import judge
from tasks.benchmarks.libraries import FLOOR, LIBRARIES, OURS, Library
from tasks.benchmarks.measuring import Measured, measure
from tasks.benchmarks.methods import METHODS, Case, Method
from tasks.benchmarks.networks import NETWORKS, Network, load_network
from tasks.benchmarks.rows import Row
from tasks.benchmarks.targets import TARGETS, verdicts
from tasks.commands import bench

COLUMNS = (
    "library", "method", "network", "seconds", "floor_ratio", "forward_passes", "backward_passes", "robust_accuracy",
    "mean_distance",
)  # fmt: skip


class Linear(nn.Module):
    """Two classes by the sign of the sum of all entries less half of them."""

    def forward(self, x: Tensor) -> Tensor:
        total = (x - 0.5).flatten(1).sum(1)
        return torch.stack([-total, total], 1)


@pytest.fixture(autouse=True)
def short_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass of each kind is floor enough here."""
    monkeypatch.setattr(measuring, "FLOOR", (0.0, 0.0))


@pytest.fixture
def case() -> Case:
    x = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = Linear()(x).argmax(1)
    return Case(Linear(), x, labels, "linf", {"steps": 4, "step": 0.25}, epsilon=0.1)


def method(**changed: Any) -> Method:
    plain = Method(norm="linf", settings={"steps": 4}, fixed=True, nominal=(4, 4), samples=6, about="")
    return replace(plain, **changed)


def descends(case: Case) -> Tensor:
    """Steps with one forward and one backward pass each."""
    x = case.x.clone()
    for _ in range(case["steps"]):
        x.requires_grad_()
        logits = case.model(x)
        own = logits.gather(1, case.labels[:, None]).sum()
        x = (x - 0.05 * torch.autograd.grad(own, x)[0].sign()).detach()
        x = x.clamp(case.x - case.epsilon, case.x + case.epsilon)
    return x


# Counting


def test_passes_are_counted_by_sample_whatever_asks_for_them() -> None:
    model = Counted(Linear())
    x = torch.rand(5, 8, requires_grad=True)
    logits = model(x)
    loss = logits.sum() + x.square().sum()  # the second term's gradient takes no pass through the model
    loss.backward(retain_graph=True)
    torch.autograd.grad(logits[:, 0].sum(), x)
    torch.autograd.grad(x.square().sum(), x)
    with torch.no_grad():
        model(x[:2])
    assert (model.forward_passes, model.backward_passes) == (7, 10)
    assert not Counted(Linear().eval()).training
    model.reset()
    assert (model.forward_passes, model.backward_passes) == (0, 0)


def test_the_gradient_behind_the_counter_is_the_model_s_own() -> None:
    x = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Counted(Linear())(x)[:, 1].sum(), x)
    assert slope.dtype == torch.float64 and slope.equal(torch.ones_like(x))


def test_a_planted_attack_costs_what_it_costs(case: Case) -> None:
    measured = measure(descends, case, method(), repeats=2)
    assert (measured.forward_passes, measured.backward_passes) == (4.0, 4.0)
    assert measured.remark is None and measured.repeats == 2 and measured.samples == 6


def test_our_counts_are_checked(case: Case) -> None:
    def ours(case: Case) -> AttackResult:
        return evasion.pgd(case.model, case.x, case.labels, epsilon=case.epsilon, steps=4)

    def boasts(case: Case) -> AttackResult:
        made = ours(case)
        return replace(made, forward_passes=made.forward_passes - 1)

    assert measure(ours, case, method(), repeats=1).remark is None
    remark = measure(boasts, case, method(), repeats=1).remark
    assert remark is not None and remark.startswith("reports ")


# The judge


def test_the_judge_clips_measures_and_trusts_nobody() -> None:
    x, labels = torch.full((4, 1, 2, 2), 0.6), torch.ones(4, dtype=torch.int64)
    attacked = x.clone().double()
    attacked[0] -= 0.2  # fools
    attacked[1] -= 5.0  # fools, but only as 0
    attacked[2] = torch.nan
    rate, distance = judge(Linear(), x, labels, attacked, norm="linf", epsilon=None)
    assert (rate.successes, rate.n) == (2, 4) and distance == pytest.approx((0.2 + 0.6) / 2)
    assert judge(Linear(), x, labels, attacked, norm="linf", epsilon=0.2)[0].successes == 3
    assert judge(Linear(), x, labels, attacked, norm="l2", epsilon=0.2)[0].successes == 4
    assert judge(Linear(), x, labels, attacked, norm="l1", epsilon=None)[1] == pytest.approx((0.8 + 2.4) / 2)
    assert judge(Linear(), x, labels, x, norm="linf", epsilon=None)[1] is None


# Times


class Clock:
    """A clock that the model moves: a second for each forward pass and two for each backward one, times the drift."""

    def __init__(self) -> None:
        self.now, self.drift = 0.0, 1.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds * self.drift


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(bare, "clock", made)
    monkeypatch.setattr(measuring, "clock", made)
    return made


class Slow(Linear):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, x: Tensor) -> Tensor:
        self.clock.spend(1)
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(lambda gradient: self.clock.spend(2))
        return super().forward(x)


@pytest.mark.parametrize(("nominal", "ratio"), [((4, 4), 1.25), (None, 1.25), ((8, 4), 0.9375), ((15, 0), 1.0)])
def test_ratios_are_to_the_floor_of_nominal_passes_or_of_those_made(
    case: Case, clock: Clock, nominal: tuple[int, int] | None, ratio: float
) -> None:
    def attack(case: Case) -> Tensor:
        clock.spend(3)
        return descends(case)  # 12 seconds

    measured = measure(attack, replace(case, model=Slow(clock)), method(nominal=nominal), repeats=3)
    assert measured.seconds == 15 and measured.cost == 5 and measured.floor_ratio == pytest.approx(ratio)


def test_a_machine_that_slows_down_changes_no_ratio(case: Case, clock: Clock) -> None:
    def attack(case: Case) -> Tensor:
        clock.drift *= 1.5  # from one repeat to the next; the floor after it is as slow, the one before it is not
        return descends(case)

    steady = measure(descends, replace(case, model=Slow(clock)), method(), repeats=5)
    drifting = measure(attack, replace(case, model=Slow(clock)), method(), repeats=5)
    assert steady.floor_ratio == 1 and drifting.floor_ratio == pytest.approx(1.5 / ((1 + 1.5) / 2))
    assert drifting.seconds > 2 * steady.seconds


def test_long_runs_are_not_repeated(case: Case, clock: Clock) -> None:
    def attack(case: Case) -> Tensor:
        clock.spend(measuring.LONG)
        return case.x

    assert measure(attack, replace(case, model=Slow(clock)), method(), repeats=5).repeats == 1


def test_the_floor_as_a_library_makes_the_nominal_passes(case: Case, clock: Clock) -> None:
    floor = LIBRARIES[FLOOR].attacks
    assert set(floor) == {name for name, method in METHODS.items() if method.nominal}
    for name in ("pgd", "square"):
        measured = measure(floor[name], replace(case, model=Slow(clock)), METHODS[name], repeats=1)
        assert (measured.forward_passes, measured.backward_passes) == METHODS[name].nominal
        assert measured.floor_ratio == pytest.approx(1) and measured.robust_accuracy == 1


# A whole benchmark, with a planted library and a planted network


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., attacks.Benchmark]:
    """Runs the benchmark in this process with the library ``fake``, whose deepfool fails, on the network ``tiny``."""

    def tiny(folder: Path) -> tuple[nn.Module, Tensor, Tensor]:
        x = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        return Linear(), x, (Linear()(x).argmax(1) + (torch.arange(40) % 2)) % 2  # every other one is wrong

    def fails(case: Case) -> Tensor:
        raise CellError("fake deepfool on tiny: it cannot")

    adaptors = ModuleType("planted_adaptors")
    adaptors.ATTACKS = {"pgd": descends, "deepfool": fails}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "planted_adaptors", adaptors)
    monkeypatch.setitem(LIBRARIES, "fake", Library("torch", "sys", "planted_adaptors"))
    monkeypatch.setitem(LIBRARIES, "absent", Library("no-such-distribution", "sys", "planted_adaptors"))
    monkeypatch.setitem(LIBRARIES, "broken", Library("torch", "no_such_module", "planted_adaptors"))
    monkeypatch.setitem(NETWORKS, "tiny", Network(tiny, True, 0.03, samples=8))

    def run(**settings: Any) -> attacks.Benchmark:
        return benchmark(networks=["tiny"], repeats=1, apart=measure_cell, **settings)

    return run


def test_rows_have_the_columns_and_the_results(planted: Callable[..., attacks.Benchmark]) -> None:
    done = planted(methods=["pgd"], libraries=[FLOOR, OURS, "fake"])
    data = json.loads(json.dumps(done.to_dict(), allow_nan=False))
    assert [row["library"] for row in data["rows"]] == [FLOOR, OURS, "fake"]
    assert all(set(COLUMNS) <= set(row) for row in data["rows"])
    floor, ours, fake = data["rows"]
    assert floor["robust_accuracy"] == 1 and ours["robust_accuracy"] == fake["robust_accuracy"] < 1
    assert {row["samples"] for row in data["rows"]} == {8}
    assert ours["backward_passes"] < fake["backward_passes"] == 40
    assert fake["interval"][0] < fake["robust_accuracy"] < fake["interval"][1]
    assert [(one["target"][:6], one["network"]) for one in data["targets"]] == [("PGD-40", "tiny")]
    assert "tiny     pgd     fake" in done.text() and "PGD-40" in done.text()


def test_what_is_left_out_is_said(planted: Callable[..., attacks.Benchmark]) -> None:
    told: list[str] = []
    done = planted(methods=["pgd", "deepfool"], libraries=["fake", "absent", "broken"], said=told.append)
    assert [(row.library, row.method) for row in done.rows] == [("fake", "pgd")]
    assert done.notes[0] == "Left out: absent, because no-such-distribution is not installed."
    assert done.notes[1].startswith("Left out: broken, because torch cannot be imported (ModuleNotFoundError")
    assert done.notes[2:] == ["Left out: fake deepfool on tiny: it cannot."]
    assert [line[:8] for line in told] == ["cell 1/2", "cell 2/2"]
    assert planted(methods=["ddn"], libraries=["fake"]).notes == ["fake offers no ddn with these settings."]


def test_only_samples_that_are_classified_correctly_are_used(
    planted: Callable[..., attacks.Benchmark], tmp_path: Path
) -> None:
    model, x, labels = load_network("tiny", 100, tmp_path)
    assert len(x) == 20 and model(x).argmax(1).equal(labels)
    assert load_network("tiny", 3, tmp_path)[1].equal(x[:3])


# Targets


def row(library: str, method: str, network: str = "target", **figures: Any) -> Row:
    plain = Measured(1.0, 1.0, 1.0, 1.0, 0.5, 1.0, (0.4, 0.6), 256, 1, 100.0)
    return Row(library, method, network, replace(plain, **figures))


def reached(*rows: Row) -> list[bool | None]:
    return [verdict.reached for verdict in verdicts(rows)]


def test_a_target_is_about_our_row_and_about_defended_networks() -> None:
    assert reached(row(OURS, "pgd", floor_ratio=1.1)) == [True]
    assert reached(row(OURS, "pgd", floor_ratio=1.11)) == [False]
    assert reached(row("foolbox", "pgd"), row(OURS, "pgd", "resnet20", floor_ratio=9.0)) == []


def test_speed_counts_at_the_same_strength_alone() -> None:
    peer, weak = row("adv-lib", "auto_pgd"), row("foolbox", "auto_pgd", cost=1.0, robust_accuracy=0.6)
    assert reached(row(OURS, "auto_pgd", cost=80.0), peer, weak) == [True]
    assert reached(row(OURS, "auto_pgd", cost=81.0), peer, weak) == [False]
    assert reached(row(OURS, "auto_pgd", cost=1.0, robust_accuracy=0.51), peer) == [False]
    assert reached(row(OURS, "auto_pgd", cost=1.0), weak) == [None]


def test_minimum_norms_count_at_the_same_share_alone() -> None:
    peer, lame = row("adv-lib", "carlini_wagner"), row("torchattacks", "carlini_wagner", cost=1, robust_accuracy=0.7)
    assert reached(row(OURS, "carlini_wagner", cost=75.0), peer, lame) == [True]
    assert reached(row(OURS, "carlini_wagner", cost=75.0, mean_distance=1.001), peer, lame) == [False]
    slower = row("art", "ddn", cost=200.0, mean_distance=0.9)
    near = row(OURS, "alma", cost=99.0, mean_distance=0.9)
    assert reached(row(OURS, "ddn"), row("foolbox", "ddn"), slower, near) == [True]
    assert reached(row(OURS, "ddn"), row("foolbox", "ddn"), slower) == [False]
    assert reached(row(OURS, "ddn"), row("foolbox", "fmn")) == [None]


def test_autoattack_is_judged_on_four_networks() -> None:
    def pair(network: str, **figures: Any) -> list[Row]:
        return [row("pyautoattack", "autoattack", network), row(OURS, "autoattack_fast", network, **figures)]

    four = ["target", "cnn_a_adv", "resnet2b", "resnet20"]
    good = [one for network in four for one in pair(network, cost=25.0, robust_accuracy=0.502)]
    assert reached(*good) == [True] * 5
    assert reached(*good[:6]) == [True] * 3 + [None]
    assert reached(*good, *pair("resnet56", cost=25.0, robust_accuracy=0.503)) == [True] * 4 + [False] * 2
    assert reached(row(OURS, "autoattack", "target"), row(OURS, "autoattack_fast", cost=25.0))[0] is True


@pytest.mark.parametrize("name", ["ead", "caa", "hopskipjump"])
def test_three_times_the_speed_of_art(name: str) -> None:
    assert reached(row(OURS, name, cost=33.0), row("art", name)) == [True]
    assert reached(row(OURS, name, cost=34.0), row("art", name)) == [False]
    assert reached(row(OURS, name), row("foolbox", name)) == [None]


# Registries, processes, the command


def test_adaptors_networks_and_targets_are_of_known_methods() -> None:
    for library in LIBRARIES.values():
        assert set(library.attacks) <= set(METHODS)
    assert {target.method for target in TARGETS} <= set(METHODS)
    for name in (*METHODS, *LIBRARIES, *NETWORKS):
        assert name in (bench.attacks.__doc__ or "")


@pytest.mark.parametrize("name", sorted(LIBRARIES[OURS].attacks))
def test_our_attacks_take_the_settings(name: str) -> None:
    torch.manual_seed(0)
    model = strided((4, 4), 256)
    x = torch.rand(3, 3, 32, 32)
    few = {"steps": 2, "search_steps": 2}
    settings = {key: few.get(key, value) for key, value in METHODS[name].settings.items()}
    case = Case(model, x, model(x).argmax(1), METHODS[name].norm, settings, epsilon=0.5)
    measured = measure(LIBRARIES[OURS].attacks[name], case, METHODS[name], repeats=1)
    assert measured.remark is None and measured.samples == 3


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights for the built-in network, so that it is not trained."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    save_file(strided((16, 32), 512, channels=1).state_dict(), folder / "digits.safetensors")
    return folder


def test_a_cell_is_measured_in_a_process_of_its_own(untrained: Path) -> None:
    cell = Cell(OURS, "pgd", "digits", samples=4, repeats=1, seed=0)
    apart, here = measure_apart(cell, untrained, limit=300), measure_cell(cell, untrained)
    same = ("forward_passes", "backward_passes", "robust_accuracy", "mean_distance", "interval", "samples")
    assert [getattr(apart, name) for name in same] == [getattr(here, name) for name in same]


def test_a_cell_that_fails_or_takes_too_long_says_so(untrained: Path) -> None:
    with pytest.raises(CellError, match=r"foolbox pgd on digits: (ModuleNotFoundError|given up)"):
        measure_apart(Cell("foolbox", "pgd", "digits", 10**6, 10**6, 0), untrained, limit=20)
    with pytest.raises(CellError, match="repromark pgd on digits: given up after 0.01 seconds"):
        measure_apart(Cell(OURS, "pgd", "digits", 4, 1, 0), untrained, limit=0.01)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--methods", "pdg"], "There is no method pdg: did you mean pgd?"),
        (["--libraries", "cleverhans"], "There is no library cleverhans: use floor, repromark"),
        (["--network", "resnet65"], "There is no network resnet65: did you mean resnet56?"),
        (["--network", "target"], "The network target cannot be loaded: REPROMARK_ORACLES is not set."),
        (["--repeats", "0"], "--repeats is 0, but must be above 0."),
    ],
)
def test_the_command_refuses_with_a_sentence(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPROMARK_ORACLES", raising=False)
    fewest = [] if "--libraries" in words else ["--libraries", "floor"]
    assert cli.main(["bench", "attacks", *words, *fewest]) == 2
    assert sentence in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_command_writes_table_and_json(
    planted: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attacks, "measure_apart", lambda cell, folder, *, limit: measure_cell(cell, folder))
    words = ["--methods", "pgd", "--libraries", "repromark,fake", "--network", "tiny", "--repeats", "1"]
    assert cli.main(["bench", "attacks", *words, "--out", "out", "--json", "rows.json"]) == 0
    data = json.loads(Path("rows.json").read_text())
    assert data["command"] == "bench attacks" and len(data["rows"]) == 2 and len(data["targets"]) == 1
    assert json.loads(Path("out", "results.json").read_text()) == data
    assert Path("out", "table.txt").read_text().strip() == capsys.readouterr().out.strip()
