"""The algorithms' pages: what they name exists."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from rpgjax.agents import AGENTS

ROOT = Path(__file__).parent.parent
PAGES = {
    "shac": ("shac",),
    "sapo": ("sapo",),
    "rfo": ("rfo",),
    "rpg": ("rpg", "rpg_physics"),
}


def text(page):
    return (ROOT / "docs" / f"{page}.md").read_text()


@pytest.mark.parametrize("page", PAGES)
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


def test_the_pages_of_the_world_models_agent_miss_no_setting():
    fields = {field.name for field in dataclasses.fields(AGENTS["rpg"][0])}
    named = set(re.findall(r"`([a-z_0-9]+)`", text("rpg")))
    shared = {"episode_length", "learning_rate", "max_grad_norm", "bank_size"}
    assert fields - named == shared


def test_pages_link_to_pages_that_exist():
    for page in PAGES:
        for target in re.findall(r"\]\((\w+\.md)\)", text(page)):
            assert (ROOT / "docs" / target).exists(), target
