"""The report of a demo: self-contained, complete, escaped; its pictures are whole files."""

import html as entities
import json
import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from attacks.engine import Rate
from attacks.models.embedded import CLASS_NAMES
from attacks.robustness import Card, Cell
from tasks import plots, report
from watermark import Count, Verdict

PNG = b"\x89PNG\r\n\x1a\n"


def verdict(matches: int = 78) -> Verdict:
    return Verdict(
        matches=matches,
        n=80,
        classes=10,
        alpha=1e-6,
        distinct_answers=10,
        refused=0,
        error="",
        queries=800,
        wrong_keys=tuple(Count(matches=wrong, n=80, classes=10) for wrong in (5, 12, 8)),
        unmarked=Count(matches=9, n=80, classes=10),
        clean=None,
        commitment="c0ffee",
        mark="a1b2",
    )


def results(matches: int = 78, model: str = "efficientnet-lite0") -> dict[str, Any]:
    found = verdict(matches)
    rates = {
        "majority": Rate(52, 500),
        "mapping_only": Rate(260, 500),
        "linear_probe": Rate(445, 500),
        "raw_svm": Rate(470, 500),
    }
    program, before, after = Rate(467, 500), Rate(441, 449), Rate(439, 449)
    cells = [
        Cell(0, "first", "clean", rate=Rate(93, 100), forward_passes=100),
        Cell(1, "first", "gaussian_noise", {"severity": 3}, Rate(71, 100), 100),
        Cell(1, "first", "jpeg", {"severity": 3}, note="Not run: the samples are no images."),
        Cell(2, "first", "pgd", {"norm": "linf", "epsilon": 2 / 255, "steps": 10}, Rate(62, 100), 812, 601),
        Cell(2, "first", "pgd", {"norm": "l2", "epsilon": 0.25, "steps": 10}, Rate(37, 100), 712, 503),
    ]
    return {
        "kind": "repromark demo",
        "version": 1,
        "settings": {"seed": 7, "device": "cpu", "threads": 2},
        "step_seconds": {"reprogram": 120.25, "watermark": 12.5, "card": 40.75},
        "reprogram": {
            "accuracy": program.value,
            "interval": list(program.interval),
            "rate": program.to_dict(),
            "labelled": 200,
            "shots": 20,
            "model": model,
            "source_classes": 1000,
            "weights": 4652008,
            "frozen": True,
            "canvas": 96,
            "mapping": {"targets": ["0", "1"], "sources": ["hook", "a < b"], "weights": [[0.5, -0.25], [-1.5, 2.0]]},
        },
        "baselines": {name: rate.value for name, rate in rates.items()}
        | {"rates": {name: rate.to_dict() for name, rate in rates.items()}},
        "watermark": found.to_dict()
        | {
            "wrong_key_p_value": min(wrong.p_value for wrong in found.wrong_keys),
            "unmarked_p_value": found.unmarked.p_value if found.unmarked else None,
            "accuracy_before": before.value,
            "accuracy_after": after.value,
            "rates": {"accuracy_before": before.to_dict(), "accuracy_after": after.to_dict()},
        },
        "card": Card("program on efficientnet-lite0", tuple(cells)).to_dict(),
        "seconds": 187.3,
        "peak_memory_mib": 1432.0,
    }


def look() -> plots.Look:
    pictures = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return plots.Look(pictures[0] - 0.5, pictures[:, :1], pictures, 1 - pictures, ["hook", "spiral"], ["0", "1"])


def pictures(saved: dict[str, Any]) -> dict[str, bytes]:
    return {
        "program": plots.program(look()),
        "mapping": plots.mapping(saved["reprogram"]["mapping"]),
        "accuracy": plots.accuracy(saved),
        "evidence": plots.evidence(saved),
        "card": plots.card(saved),
    }


TINY = dict.fromkeys(("program", "mapping", "accuracy", "evidence", "card"), b"<svg/>")


@pytest.fixture(scope="module")
def page() -> str:
    return report.html(results(), pictures(results()))


def test_the_page_refers_to_nothing_outside(page: str) -> None:
    addresses = re.findall(r"(?:src|href|srcset|action)\s*=\s*[\"']?([^\"' >]*)", page)
    assert len(addresses) == 5
    assert all(address.startswith("data:image/") for address in addresses)
    text = re.sub(r"data:image/[^\"]*", "", page)
    for reference in ("http:", "https:", "//", "<script", "<link", "<iframe", "@import", "url("):
        assert reference not in text.lower().replace("<!doctype html>", "")


def test_the_page_shows_every_number_of_the_results(page: str) -> None:
    text = entities.unescape(re.sub(r"data:image/[^\"]*", "", page))
    assert json.dumps(results(), indent=2, ensure_ascii=False) in text


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_the_page_says_the_main_figures_with_interval_and_n(page: str) -> None:
    said = words(page.split("results.json</summary>")[0])
    saved = results()
    rates = [saved["reprogram"]["rate"], *saved["baselines"]["rates"].values(), *saved["watermark"]["rates"].values()]
    rates += [cell["rate"] for cell in saved["card"]["cells"] if cell["rate"]]
    for rate in rates:
        assert f"{rate['value']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}] {rate['successes']} of {rate['n']}" in said
    assert "p = 2.6e-75" in said
    assert "247.8 bits" in said
    assert "linf, epsilon 2/255, 10 steps" in said
    assert "l2, epsilon 0.25, 10 steps" in said
    assert "Not run: the samples are no images." in said
    assert "not the probability that a model was stolen" in said
    assert "repromark demo --seed 7 --device cpu" in said


def test_the_headline_spans_the_mildest_and_the_hardest_attack_in_whatever_order_they_came() -> None:
    saved = results()
    cells = saved["card"]["cells"]
    cells += [Cell(2, "first", "pgd", {"norm": "linf", "epsilon": 1 / 255, "steps": 10}, Rate(88, 100)).to_dict()]
    cells += [Cell(2, "first", "pgd", {"norm": "l2", "epsilon": 9.0, "steps": 10}, note="Not run.").to_dict()]
    text = words(report.html(saved, TINY).split("<section>")[0])
    assert "88 to 37 % of 100 test digits" in text
    assert "mildest attack tried (linf, epsilon 1/255, 10 steps; 95 % interval 80.2 to 93.0 %)" in text
    assert "hardest (l2, epsilon 0.25, 10 steps; 28.2 to 46.8 %). Without attack: 93 %." in text
    saved["card"]["cells"] = [cell for cell in cells if cell["level"] < 2]
    assert "attack" not in words(report.html(saved, TINY).split("<section>")[0])


def test_the_page_explains_its_words(page: str) -> None:
    explained = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", page, re.DOTALL)
    assert {name for name, _ in explained} >= {
        "linf, l2",
        "PGD",
        "bits",
        "passes (back)",
        "party",
        "epsilon",
        "p-value",
    }
    assert all(20 < len(meaning) < 250 for _, meaning in explained)


def test_text_from_the_results_is_escaped() -> None:
    page = report.html(results(model="<script>alert('x')</script>"), TINY)
    assert "<script" not in page
    assert "&lt;script&gt;alert" in page


def test_a_mark_that_is_not_found_is_called_not_verified() -> None:
    saved = results(matches=9)
    assert "<b>not verified</b>" in report.html(saved, TINY)
    assert "not verified" in report.table(saved)
    assert "<b>verified</b>" in report.html(results(), TINY)


def test_a_system_that_does_not_tell_its_memory_breaks_nothing() -> None:
    saved = results() | {"peak_memory_mib": None}
    assert "Memory at its peak" not in report.html(saved, TINY)
    assert "MiB" not in report.table(saved)


def test_the_table_fits_a_terminal_and_has_every_rate() -> None:
    lines = report.table(results()).splitlines()
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    for rate in (Rate(467, 500), Rate(445, 500), Rate(260, 500), Rate(52, 500), Rate(441, 449), Rate(62, 100)):
        assert str(rate) in text
    assert "78 matches, p = 2.6e-75, 247.8 bits" in text
    assert "best of 3 wrong keys" in text
    assert "12 matches" in text
    assert "not run" in text
    assert "1432 MiB" in text


def test_pictures_are_whole_files_without_references() -> None:
    for name, picture in pictures(results()).items():
        if name == "program":
            assert picture.startswith(PNG)
            continue
        tree = ElementTree.fromstring(picture)
        links = [value for node in tree.iter() for key, value in node.attrib.items() if key.endswith("href")]
        assert all(link.startswith(("#", "data:")) for link in links)


def test_pictures_are_the_same_each_time() -> None:
    assert pictures(results()) == pictures(results())


def test_imagenets_longest_names_fit_uncut_and_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(CLASS_NAMES.read_text(encoding="utf-8").splitlines(), key=len)[-5:]
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_file", lambda figure, *_: drawn.append(figure) or PNG)
    pictures = torch.rand(5, 3, 8, 8)
    plots.program(plots.Look(pictures[0], pictures[:, :1], pictures, pictures, names, list("01234")))
    plots.mapping({"targets": ["0"], "sources": names, "weights": [[1.0, 2.0, 3.0, 4.0, 5.0]]})
    program, mapped = drawn
    FigureCanvasAgg(program).draw()
    labels = [
        axes.xaxis.label for axes in program.axes if axes.get_xlabel().replace("\n", " ").replace("- ", "-") in names
    ]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) == 5 and all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert [label.get_text() for label in mapped.axes[0].get_xticklabels()] == names


@pytest.mark.parametrize("bits", [0.0, 0.5, 20.0, 40000.0])
def test_evidence_of_any_strength_can_be_drawn(bits: float) -> None:
    saved = results()
    saved["watermark"] |= {"bits": bits, "p_value": 2.0**-bits}
    ElementTree.fromstring(plots.evidence(saved))


def test_a_mapping_without_negative_weights_can_be_drawn() -> None:
    for weights in ([[0.0, 1.0]], [[0.0, 0.0]]):
        ElementTree.fromstring(plots.mapping({"targets": ["0"], "sources": ["hook", "$x"], "weights": weights}))


def test_the_overview_is_a_small_png_of_1200_pixels(tmp_path: Any) -> None:
    path = tmp_path / "overview.png"
    path.write_bytes(plots.overview(results(), look()))
    assert Image.open(path).size[0] == 1200
    assert path.stat().st_size < 200 * 2**10
