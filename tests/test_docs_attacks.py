"""The page about attacks names every attack, and its examples run."""

import re
from pathlib import Path

from attacks import evasion

PAGE = (Path(__file__).parent.parent / "docs" / "attacks.md").read_text(encoding="utf-8")


def test_every_attack_is_named():
    assert [name for name in evasion.__all__ if f"`{name}`" not in PAGE] == []


def test_the_examples_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile("\n".join(blocks), "attacks.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("True") == 1 and "True 0" in lines and "True True" in lines
