"""What the pages name exists, and what they show runs."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from rpgjax.agents import AGENTS
from rpgjax.physics.compliance import Compliance

ROOT = Path(__file__).parent.parent
PAGES = {
    "shac": ("shac",),
    "sapo": ("sapo",),
    "rfo": ("rfo",),
    "rpg": ("rpg", "rpg_physics"),
}


def text(page):
    return (ROOT / "docs" / f"{page}.md").read_text()


@pytest.mark.parametrize("page", [*PAGES, "physics"])
def test_every_name_is_importable(page):
    names = set(re.findall(r"`(rpgjax\.[\w.]+)`", text(page)))
    assert len(names) > 5
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize(("page", "algorithms"), PAGES.items())
def test_every_field_is_one_of_the_algorithms(page, algorithms):
    configs = [AGENTS[name][0] for name in algorithms]
    fields = {field.name for config in configs for field in dataclasses.fields(config)}
    rows = [line for line in text(page).splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`([a-z_0-9]+)`", row)}
    assert len(named) > 10 and named <= fields, named - fields


def test_the_page_of_physics_misses_no_number_of_softness_and_its_program_runs():
    fields = {field.name for field in dataclasses.fields(Compliance)}
    table = text("physics").split("| symbol |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", table)) == fields
    [block] = re.findall(r"```python\n(.*?)```", text("physics"), re.DOTALL)
    made = {}
    exec(compile(block, "physics.md", "exec"), made)
    assert made["task"].backend == "generalized" and made["soft"].backend == "compliant"


def test_the_pages_of_the_world_models_agent_miss_no_setting():
    fields = {field.name for field in dataclasses.fields(AGENTS["rpg"][0])}
    named = set(re.findall(r"`([a-z_0-9]+)`", text("rpg")))
    shared = {"episode_length", "learning_rate", "max_grad_norm", "bank_size"}
    assert fields - named == shared


def test_pages_link_to_pages_that_exist():
    for page in (*PAGES, "physics"):
        for target in re.findall(r"\]\(([\w./]+)[#)]", text(page)):
            assert (ROOT / "docs" / target).exists(), target
