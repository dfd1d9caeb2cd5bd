"""Brax's locomotion and arm tasks on compliant contact: RFO, three seeds each.

python experiments/brax_suite/run.py                  everything that has no results yet
python experiments/brax_suite/run.py hopper-rfo       only these
python experiments/brax_suite/run.py --report         only the figures and the table

Settings are the presets: `rpgjax train rfo --env hopper --backend compliant` does the same.
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import CURVES, Experiment, Variant, curves, fill_readme, run, spread

FOLDER = Path(__file__).parent
BACKEND = "compliant"
ALSO_ON = ("generalized", "spring")
LABELS = {"rfo": "RFO", "shac": "SHAC", "sapo": "SAPO"}
UPDATES = {  # of the preset's num_envs x horizon environment steps
    "ant": 680,
    "halfcheetah": 500,
    "hopper": 500,
    "walker2d": 500,
    "reacher": 200,
    "inverted_double_pendulum": 200,
}
CELLS = {f"{task}-{name}": (task, name) for task in UPDATES for name in LABELS}


def experiment(task: str) -> Experiment:
    """Every algorithm on a task."""
    return Experiment(
        folder=FOLDER,
        env=task,
        backend=BACKEND,
        seeds=3,
        variants={
            f"{task}-{name}": Variant(name, label, UPDATES[task]) for name, label in LABELS.items()
        },
        figures={},
        table_at=(),
        also_on=ALSO_ON,
    )


def table() -> str:
    """Markdown: a row for each cell with results, at the run's end."""
    lines = [
        "| task | algorithm | environment steps | deterministic | sampled | on generalized | on spring |",
        "|---" * 7 + "|",
    ]
    for cell, (task, name) in CELLS.items():
        if not experiment(task).results(cell).exists():
            continue
        content = json.loads(experiment(task).results(cell).read_text())
        steps = content["seeds"][0]["env_steps"][-1]
        cells = [spread([seed[key][-1] for seed in content["seeds"]]) for key in CURVES]
        there = content.get("elsewhere", {})
        cells += [spread(there[b][CURVES[0]]) if b in there else "not run" for b in ALSO_ON]
        lines.append(f"| {task} | {LABELS[name]} | {steps / 1e6:.2f}M | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw() -> None:
    """Deterministic returns over environment steps, a panel for each task."""
    found = {
        task: [n for n in LABELS if experiment(task).results(f"{task}-{n}").exists()]
        for task in UPDATES
    }
    found = {task: names for task, names in found.items() if names}
    if not found:
        return
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.4 * columns, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    for axis, (task, names) in zip(axes.flat, found.items(), strict=False):
        for name in names:
            steps, values = curves(experiment(task), f"{task}-{name}", CURVES[0])
            color = f"C{list(LABELS).index(name)}"
            axis.plot(steps / 1e6, values.mean(0), color=color, label=LABELS[name])
            axis.fill_between(steps / 1e6, values.min(0), values.max(0), color=color, alpha=0.2)
        axis.set(title=task, xlabel="environment steps (millions)", ylabel="return")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.suptitle("Brax on compliant contact: mean and range of 3 seeds, deterministic policy")
    figure.savefig(FOLDER / "suite.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--report", action="store_true", help="draw only")
    arguments = parser.parse_args()
    if unknown := set(arguments.cells) - set(CELLS):
        parser.error(f"unknown cells: {', '.join(sorted(unknown))}")
    if not arguments.report:
        missing = [c for c, (task, _) in CELLS.items() if not experiment(task).results(c).exists()]
        for cell in arguments.cells or missing:
            run(experiment(CELLS[cell][0]), cell)
    draw()
    fill_readme(FOLDER, table())


if __name__ == "__main__":
    main()
