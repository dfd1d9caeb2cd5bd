"""Brax's locomotion and arm tasks on compliant contact: RFO, SHAC and SAPO, three seeds at a time.

python experiments/brax_suite/run.py                              everything that has no results yet
python experiments/brax_suite/run.py hopper-rfo                   only these
python experiments/brax_suite/run.py hopper-rfo --first-seed 3    three seeds more: 3, 4 and 5
python experiments/brax_suite/run.py --report                     only the figures and the tables

Settings are the presets: `rpgjax train rfo --env hopper --backend compliant` does the same. Cells that
end in `-spring-smoothed` and `-generalized-smoothed` train for Brax's own physics, with the slopes of
compliant contact; those that end in `-ppo` are Brax's PPO on compliant contact, one seed, ten minutes, for
comparison.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

import harness
from harness import CURVES, Experiment, Variant, curves, fill_readme, found, spread
from peer import Point, evaluations, keep, ppo

from rpgjax.envs.registry import backends
from rpgjax.presets import preset

FOLDER = Path(__file__).parent
BEFORE = FOLDER / "windows_of_32"  # what presets with twice as long windows came to
ALSO_ON = ("generalized", "spring")
LABELS = {"rfo": "RFO", "shac": "SHAC", "sapo": "SAPO", "ppo": "PPO"}
TASKS = (
    "ant",
    "halfcheetah",
    "hopper",
    "walker2d",
    "humanoid",
    "swimmer",
    "reacher",
    "pusher",
    "inverted_double_pendulum",
)
WALKERS = ("ant", "halfcheetah", "hopper", "walker2d")
ARMS = ("swimmer", "reacher", "pusher", "inverted_double_pendulum")
PPO_SECONDS = 600.0
STILLS_FROM = {  # seconds; elsewhere an episode's middle
    "reacher": 0.0,
    "pusher": 0.0,
    "inverted_double_pendulum": 0.0,
}


class Cell(NamedTuple):
    """One row of the table."""

    task: str
    algorithm: str
    backend: str = "compliant"

    @property
    def name(self) -> str:
        """What the command line calls it."""
        physics = "" if self.backend == "compliant" else f"-{self.backend}"
        return f"{self.task}-{self.algorithm}{physics}"

    @property
    def experiment(self) -> Experiment:
        """As the harness has it, alone."""
        updates = preset("rfo", self.task, self.backend).updates
        variant = Variant(self.algorithm, LABELS[self.algorithm], updates)
        there = tuple(backend for backend in ALSO_ON if backend in backends(self.task))
        return Experiment(FOLDER, self.task, self.backend, 3, {self.name: variant}, {}, (), there)

    @property
    def results(self) -> Path:
        """Where its numbers are."""
        return self.experiment.results(self.name)

    @property
    def moments(self) -> Path:
        """Where the poses of its stills are."""
        return self.results.with_name(f"{self.name}-moments.npz")


CELLS = {
    cell.name: cell
    for cell in (
        *(Cell(task, name) for task in TASKS for name in ("rfo", "shac", "sapo")),
        *(Cell(task, "rfo", f"{exact}-smoothed") for task in WALKERS for exact in ALSO_ON),
        *(Cell(task, "ppo") for task in ARMS),
    )
}


def run(cell: Cell, first_seed: int) -> None:
    """Trains a cell."""
    if cell.algorithm == "ppo":
        if first_seed:
            raise SystemExit(f"{cell.name}: PPO has seed 0 alone")
        run_ppo(cell)
        return
    done = harness.run(cell.experiment, cell.name, first_seed)
    if cell.algorithm == "rfo" and cell.backend == "compliant" and not first_seed:
        keep_moments(cell, done)


def run_ppo(cell: Cell) -> None:
    """Brax's PPO for a while."""
    print(f"== {cell.name}", flush=True)

    def enough(point: Point) -> bool:
        return point["seconds"] > PPO_SECONDS

    points = evaluations(ppo(cell.task, cell.backend, seed=0), enough, ours=True)
    keep(cell.results, points, seed=0)


def keep_moments(cell: Cell, done: Any) -> None:
    """Plays an episode of the first seed's policy and keeps the poses that the picture shows."""
    import jax

    from rpgjax.training.replay import record
    from rpgjax.training.stills import moments

    state = jax.tree.map(lambda leaf: leaf[0], done.state)
    episode = record(done.agent, done.env, state, done.episode_length)
    poses = moments(episode, float(done.env.dt), STILLS_FROM.get(cell.task))
    np.savez_compressed(cell.moments, **poses._asdict())


def table() -> str:
    """Markdown: a row for each cell with results, at the run's end."""
    lines = [
        "| task | trained on | algorithm | seeds | environment steps | deterministic | sampled "
        "| on generalized | on spring |",
        "|---" * 9 + "|",
    ]
    for cell in sorted(CELLS.values(), key=lambda cell: TASKS.index(cell.task)):
        if not cell.results.exists():
            continue
        if cell.algorithm == "ppo":
            last = json.loads(cell.results.read_text())["evaluations"][-1]
            count, steps, cells = 1, last["env_steps"], [f"{last['return']:.0f}", "", "", ""]
        else:
            (at, values), (_, sampled) = (curves(cell.experiment, cell.name, k) for k in CURVES)
            count, steps = len(values), at[-1]
            cells = [spread(values[:, -1]), spread(sampled[:, -1])]
            cells += [elsewhere(cell, backend) for backend in ALSO_ON]
        start = f"| {cell.task} | {cell.backend} | {LABELS[cell.algorithm]} | {count} "
        lines.append(f"{start}| {steps / 1e6:.2f}M | {' | '.join(cells)} |")
    return "\n".join(lines)


def elsewhere(cell: Cell, backend: str) -> str:
    """What a cell's policies return on other physics; a dash where that was not run."""
    seeds = [
        value
        for content in found(cell.experiment, cell.name)
        for value in content.get("elsewhere", {}).get(backend, {}).get(CURVES[0], ())
    ]
    return spread(seeds) if seeds else "-"


def windows() -> str:
    """Markdown: presets of today beside those with windows of 32, where both were run."""
    lines = [
        "| task | algorithm | deterministic, at the end | with windows of 32 "
        "| within a tenth of the lower end after | with windows of 32 |",
        "|---" * 6 + "|",
    ]
    for cell in CELLS.values():
        before = cell.experiment._replace(folder=BEFORE)
        if not (cell.results.exists() and before.results(cell.name).exists()):
            continue
        pair = [
            curves(experiment, cell.name, CURVES[0]) for experiment in (cell.experiment, before)
        ]
        ends = [spread(values[:, -1]) for _, values in pair]
        lower = min(values[:, -1].mean() for _, values in pair)
        level = lower - 0.1 * abs(lower)
        there = [steps[np.argmax(values.mean(0) >= level)] for steps, values in pair]
        after = " | ".join(f"{steps / 1e6:.2f}M" for steps in there)
        lines.append(f"| {cell.task} | {LABELS[cell.algorithm]} | {' | '.join(ends)} | {after} |")
    return "\n".join(lines)


def draw() -> None:
    """Deterministic returns over environment steps, a panel for each task."""
    there = [c for c in CELLS.values() if c.results.exists() and c.backend == "compliant"]
    tasks = [task for task in TASKS if any(cell.task == task for cell in there)]
    if not tasks:
        return
    columns = min(5, len(tasks))
    rows = -(-len(tasks) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.2 * columns, 3.2 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(tasks) :]:
        axis.set_visible(False)
    for axis, task in zip(axes.flat, tasks, strict=False):
        for cell in (cell for cell in there if cell.task == task):
            draw_curve(axis, cell)
        axis.set(title=task, xlabel="environment steps (millions)", ylabel="return")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize="small")
    figure.suptitle("Brax on compliant contact: mean and range over seeds, deterministic policy")
    figure.savefig(FOLDER / "suite.png", dpi=110)


def draw_curve(axis: Any, cell: Cell) -> None:
    """A cell's curve; of PPO's the level that it reached, which took it far more steps."""
    color, label = f"C{list(LABELS).index(cell.algorithm)}", LABELS[cell.algorithm]
    if cell.algorithm == "ppo":
        last = json.loads(cell.results.read_text())["evaluations"][-1]
        label = f"{label}, {last['env_steps'] / 1e6:.0f}M"
        axis.axhline(last["return"], color=color, linestyle="--", label=label)
        return
    steps, values = curves(cell.experiment, cell.name, CURVES[0])
    axis.plot(steps / 1e6, values.mean(0), color=color, label=f"{label}, {len(values)} seeds")
    axis.fill_between(steps / 1e6, values.min(0), values.max(0), color=color, alpha=0.2)


def draw_replays() -> None:
    """Stills of what RFO's first seed learned, a row for each task."""
    import rpgjax
    from rpgjax.training.stills import MOMENTS, Moments, strip

    cells = [cell for cell in CELLS.values() if cell.moments.exists()]
    if not cells:
        return
    figure, axes = plt.subplots(
        len(cells),
        MOMENTS,
        figsize=(1.5 * MOMENTS, 1.5 * len(cells)),
        squeeze=False,
        layout="constrained",
    )
    for row, cell in zip(axes, cells, strict=True):
        strip(row, Moments(**np.load(cell.moments)), rpgjax.make(cell.task, cell.backend).sys)
        row[0].set_ylabel(cell.task.replace("_", "\n"), fontsize="small")
    figure.suptitle(
        "RFO on compliant contact, seed 0: a tenth of a second apart", fontsize="medium"
    )
    figure.savefig(FOLDER / "replays.png", dpi=90)


def main() -> None:
    """Trains what has no results yet, then reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--report", action="store_true", help="draw only")
    parser.add_argument("--first-seed", type=int, default=0, help="above 0: further seeds")
    arguments = parser.parse_args()
    if unknown := set(arguments.cells) - set(CELLS):
        parser.error(f"unknown cells: {', '.join(sorted(unknown))}")
    if arguments.first_seed and not arguments.cells:
        parser.error("name the cells that get further seeds")
    if not arguments.report:
        missing = [name for name, cell in CELLS.items() if not cell.results.exists()]
        for name in arguments.cells or missing:
            run(CELLS[name], arguments.first_seed)
    draw()
    draw_replays()
    fill_readme(FOLDER, table())
    fill_readme(FOLDER, windows(), "windows")


if __name__ == "__main__":
    main()
