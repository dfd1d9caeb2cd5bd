"""The README's programs run as they stand there, and are short."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
NAMES = ["five lines", "own task", "own head"]


@pytest.mark.parametrize("block", BLOCKS, ids=NAMES)
def test_a_program_of_the_readme_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(block.splitlines()) <= 30
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    assert re.search(r"\d", capsys.readouterr().out)


def test_every_field_and_folder_that_the_readme_names_exists():
    from rpgjax.agents import AGENTS

    fields = {name for config, _ in AGENTS.values() for name in vars(config())}
    table = README.split("## What is the papers'")[1]
    named = re.findall(r"`([a-z_]+)`", table)
    assert len(named) > 8
    assert set(named) <= fields
    for path in re.findall(r"\]\((experiments/[\w/]+)\)", README):
        assert (Path(__file__).parent.parent / path).exists(), path
