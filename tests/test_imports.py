"""The floors of the house: imports run downwards only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rpgjax"
FLOORS = [  # from the ground up; a file may import from its own floor and from those below
    {"types"},
    {"models", "physics"},
    {"objectives", "policies", "envs"},
    {"rollout"},
    {"agents"},
    {"presets", "training"},
    {"gradcheck", "arguments", "options"},
    {"cli", "__main__"},
]
# Rooms of one floor that may know each other: presets are training settings, training finds them by
# name.
NEIGHBOURS = {("presets", "training"), ("training", "presets"), ("__main__", "cli")}


def floor_of(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rpgjax."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.startswith("rpgjax."):
                    yield name.name.split(".")[1]


def test_imports_run_downwards_only():
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for target in imports(path):
            seen += 1
            allowed = (
                target == room or (room, target) in NEIGHBOURS or floor_of(target) < floor_of(room)
            )
            assert allowed, f"{path.relative_to(PACKAGE)} imports rpgjax.{target}"
    assert seen > 50, "the test must have found the imports"


def test_agents_are_known_to_training_through_their_contract_only():
    for path in (PACKAGE / "training").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "rpgjax.agents."
            ):
                assert node.module == "rpgjax.agents.agent", path.name


@pytest.mark.parametrize(
    "program",
    [
        "import rpgjax; rpgjax.train, rpgjax.make, rpgjax.preset",
        "from rpgjax.agents import SHACConfig",
        "from rpgjax.training.population import population",
    ],
)
def test_importing_prints_nothing(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == ""
