"""The gradient of every Brax task on every backend: is it right, is it useful, what does it cost?

python experiments/gradient_quality/run.py                     every cell that has no results yet
python experiments/gradient_quality/run.py ant-spring ant-mjx  only these
python experiments/gradient_quality/run.py --report            only the figure and the tables

Each cell is `rpgjax gradcheck` in a process of its own; `results/TASK-BACKEND.json` keeps its rows, or
the line that it failed with. A cell that ends in `-trained` trains RFO with its preset first, one seed,
and looks at the gradient along what the policy does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import fill_readme

from rpgjax.envs import registry
from rpgjax.training.runs import origin

FOLDER = Path(__file__).parent
HORIZON, NUM_ENVS, SEED = 32, 64, 0
OURS = ("ant_maze", "ant_push")  # not Brax's tasks
SHOWN = (8, 32)  # horizons in the README's table
SMOOTHED = ("spring-smoothed", "generalized-smoothed")  # exact steps, compliant slopes
BACKENDS = ("spring", "positional", "generalized", "mjx", "compliant", *SMOOTHED)
USABLE = 0.8  # the cosine with finite steps, from which on a gradient is called usable


class Cell(NamedTuple):
    """A row of the tables."""

    task: str
    backend: str
    trained: bool = False  # along a trained policy; else random actions from reset states

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return f"{self.task}-{self.backend}{'-trained' if self.trained else ''}"

    @property
    def results(self) -> Path:
        """Where its rows are."""
        return FOLDER / "results" / f"{self.name}.json"


RANDOM = [
    Cell(task, backend)
    for task in registry.names()
    for backend in registry.backends(task)
    if task not in OURS and backend in BACKENDS
]
# A reward that is constant (inverted_pendulum) teaches nothing.
TRAINED = [
    cell._replace(trained=True)
    for cell in RANDOM
    if cell.backend == "compliant" and cell.task != "inverted_pendulum"
]
CELLS = {cell.name: cell for cell in (*RANDOM, *TRAINED)}


def run(cell: Cell, seconds: float) -> None:
    """Measures one cell."""
    began = time.perf_counter()
    task = f"--env {cell.task} --backend {cell.backend}"
    flags = f"--horizon {HORIZON} --num-envs {NUM_ENVS} --seed {SEED}"
    steps = [f"gradcheck {task} {flags}"]
    if cell.trained:
        steps = [f"train rfo {task} --seed {SEED} --out RUN", f"gradcheck --run RUN {flags}"]
    content: dict[str, Any] = {"command": " && ".join(f"rpgjax {step}" for step in steps)}
    with tempfile.TemporaryDirectory() as folder:
        rows, figure, trained = (Path(folder, name) for name in ("rows.json", "rows.png", "run"))
        hidden = {"train": ["--no-replay"], "gradcheck": ["--json", rows, "--figure", figure]}
        try:
            for step in steps:
                words = [trained if word == "RUN" else word for word in step.split()]
                left = began + seconds - time.perf_counter()
                call([*words, *hidden[step.split()[0]]], left)
            content["rows"] = json.loads(rows.read_text())
        except subprocess.TimeoutExpired:
            content["error"] = f"stopped after {seconds:.0f} s"
        except subprocess.CalledProcessError as error:
            content["error"] = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
    content |= {"seconds": round(time.perf_counter() - began, 1)} | origin()
    cell.results.write_text(json.dumps(content, indent=1) + "\n")


def call(words: list[Any], seconds: float) -> None:
    """`rpgjax WORDS`; raises what went wrong."""
    command = [sys.executable, "-m", "rpgjax", *map(str, words)]
    subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)


def measured(cells: list[Cell]) -> dict[Cell, dict[str, Any]]:
    """What the cells' files say."""
    return {c: json.loads(c.results.read_text()) for c in cells if c.results.exists()}


def number(value: float | None, form: str) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def usable(rows: list[dict[str, Any]]) -> str:
    """The longest horizon up to which every cosine is high; "zero" where there is no gradient."""
    longest = 0
    for row in sorted(rows, key=lambda row: row["horizon"]):
        if row["smoothed_cosine"] is None:
            return "zero"
        if row["smoothed_cosine"] < USABLE:
            break
        longest = row["horizon"]
    return str(longest)


def guide() -> str:
    """Markdown: for each task and backend the longest usable horizon, and gradient steps/s."""
    found = measured(RANDOM)
    lines = [f"| task | {' | '.join(BACKENDS)} |", "|---" * (len(BACKENDS) + 1) + "|"]
    for name in sorted({cell.task for cell in RANDOM}):
        cells = []
        for backend in BACKENDS:
            content = found.get(Cell(name, backend))
            if content is None:
                cells.append("not run" if Cell(name, backend) in RANDOM else "-")
            elif "error" in content:
                cells.append("see below")
            else:
                longest = usable(content["rows"])
                rate = content["rows"][-1]["gradient_steps_per_second"]
                cells.append(longest if longest == "zero" else f"{longest} ({rate:,.0f}/s)")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table(cells_of: list[Cell]) -> str:
    """A Markdown row for each cell."""
    titles = ["task", "backend", "error, H = 4"]
    for horizon in SHOWN:
        titles += [f"norm, H = {horizon}: median / largest", f"cosine, H = {horizon}"]
    titles += ["forward steps/s", "gradient steps/s", "ratio", "compile s"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for cell, content in measured(cells_of).items():
        start = [cell.task, cell.backend]
        if "error" in content:
            lines.append(f"| {' | '.join(start)} | {content['error']} |" + " |" * (len(titles) - 3))
            continue
        rows = {row["horizon"]: row for row in content["rows"]}
        cells = [*start, number(rows[4]["fd_relative_error"], ".0e")]
        for row in (rows[horizon] for horizon in SHOWN):
            broken = f", {row['nonfinite']} not finite" if row["nonfinite"] else ""
            median, largest = (number(row[f"grad_norm_{k}"], ".2g") for k in ("median", "max"))
            cells += [f"{median} / {largest}{broken}", number(row["smoothed_cosine"], ".2f")]
        last = rows[HORIZON]
        forward, gradient = (last[f"{k}_steps_per_second"] for k in ("forward", "gradient"))
        cells += [f"{forward:,.0f}", f"{gradient:,.0f}", f"{forward / gradient:.1f}"]
        lines.append(f"| {' | '.join(cells)} | {last['compile_seconds']:.0f} |")
    return "\n".join(lines)


def draw() -> None:
    """Median norm and cosine over the horizon: a panel for each task, a line for each backend."""
    found = {cell: c["rows"] for cell, c in measured(RANDOM).items() if "rows" in c}
    # A task whose gradient is zero has nothing to show.
    names = sorted({cell.task for cell, rows in found.items() if rows[-1]["grad_norm_max"]})
    if not names:
        return
    figure, axes = plt.subplots(
        len(names),
        2,
        figsize=(8, 1.9 * len(names)),
        sharex=True,
        layout="constrained",
        squeeze=False,
    )
    for (left, right), name in zip(axes, names, strict=True):
        for index, backend in enumerate(BACKENDS):
            if Cell(name, backend) not in found:
                continue
            rows = found[Cell(name, backend)]
            at = [row["horizon"] for row in rows]
            for axis, key in ((left, "grad_norm_median"), (right, "smoothed_cosine")):
                values = [np.nan if row[key] is None else row[key] for row in rows]
                axis.plot(at, values, ".-", color=f"C{index}", label=backend)
        left.set(xscale="log", yscale="log", title=name)
        right.set(xscale="log", ylim=(-0.3, 1.05), title=name)
        left.set_xticks(at, [str(horizon) for horizon in at])
        for axis in (left, right):
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        left.legend(frameon=False, fontsize="x-small")
    axes[-1, 0].set_xlabel("horizon; median norm of the gradient")
    axes[-1, 1].set_xlabel("horizon; cosine with slopes over steps of 0.01")
    figure.savefig(FOLDER / "gradient_quality.png", dpi=90)


def report() -> None:
    """The figure, and the tables on the screen and between the marks in README.md."""
    draw()
    head = (
        f"Longest horizon up to which every cosine is {USABLE} or more"
        f" (gradient steps/s at H = {HORIZON}):"
    )
    text = f"{head}\n\n{guide()}\n\nEvery cell:\n\n{table(RANDOM)}"
    if measured(TRAINED):
        text += f"\n\nAlong policies that RFO's presets trained, one seed each:\n\n{table(TRAINED)}"
    fill_readme(FOLDER, text)


def main() -> None:
    """Measures what has no results yet, then reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--report", action="store_true", help="draw only")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one cell")
    arguments = parser.parse_args()
    if unknown := set(arguments.cells) - set(CELLS):
        parser.error(f"unknown cells: {', '.join(sorted(unknown))}")
    if not arguments.report:
        (FOLDER / "results").mkdir(exist_ok=True)
        missing = [name for name, cell in CELLS.items() if not cell.results.exists()]
        for name in arguments.cells or missing:
            print(f"== {name}", flush=True)
            run(CELLS[name], arguments.limit)
    report()


if __name__ == "__main__":
    main()
