"""Files that are whole or absent, JSON that is strict, and progress that fits where it is shown."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from attacks.engine import Rate
from attacks.errors import InputError
from tasks import progress
from tasks.files import make_folder, to_json, unmade_if_empty, write_text


def test_json_is_strict() -> None:
    data = {"rate": Rate(1, 2), "nothing": float("inf"), "file": Path("a"), 3: (1, None, True)}
    read = json.loads(to_json(data))
    assert read["rate"]["successes"] == 1
    assert (read["nothing"], read["file"], read["3"]) == (None, "a", [1, None, True])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "new" / "a.txt", "one")
    assert path.read_text() == "one\n"

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="cannot be written .No space left on device.: choose another place"):
        write_text(path, "two")
    assert path.read_text() == "one\n" and [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "one")


def test_a_folder_for_results_is_made_or_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made .* choose another one"):
        make_folder(tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="cannot be written: choose another one"):
        make_folder(tmp_path)


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt])
def test_folders_go_again_when_the_work_fails_and_they_are_empty(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "old").mkdir()
    places = tmp_path / "new" / "a", tmp_path / "kept", tmp_path / "old", tmp_path / "never"
    with pytest.raises(error), unmade_if_empty(*places):
        for place in places[:3]:
            make_folder(place)
        write_text(places[1] / "results.json", "{}")
        raise error
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["kept", "old"]
    with unmade_if_empty(tmp_path / "new"):
        make_folder(tmp_path / "new")
    assert (tmp_path / "new").is_dir()


def test_bars_become_plain_lines() -> None:
    stream = io.StringIO()
    lines = progress.PlainLines(stream, every=0)
    for _ in tqdm(range(3), file=lines, desc="work", mininterval=0):
        pass
    lines.write("a line of its own\n")
    text = stream.getvalue()
    assert "\r" not in text and text.startswith("work:   0% 0/3") and "work: 100% 3/3" in text
    assert text.endswith("a line of its own\n")


def test_a_short_bar_says_nothing() -> None:
    stream = io.StringIO()
    for _ in tqdm(range(3), file=progress.PlainLines(stream)):
        pass
    assert stream.getvalue() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_keeps_its_bars(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.plain_progress():
        assert isinstance(sys.stderr, progress.PlainLines) is not terminal
    assert sys.stderr is stream
