"""The gradient of every Brax task on every backend: is it right, is it useful, what does it cost?

python experiments/gradient_quality/run.py                     every cell that has no results yet
python experiments/gradient_quality/run.py ant-spring ant-mjx  only these
python experiments/gradient_quality/run.py --report            only the figure and the tables

Each cell is `rpgjax gradcheck` in a process of its own; `results/TASK-BACKEND.json` keeps its rows, or
the line that it failed with.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import fill_readme

from rpgjax.envs import registry
from rpgjax.training.runs import device_description, git_commit, versions

FOLDER = Path(__file__).parent
HORIZON, NUM_ENVS, SEED = 32, 64, 0
OURS = ("ant_maze", "ant_push")  # not Brax's tasks
SHOWN = (8, 32)  # horizons in the README's table
BACKENDS = ("spring", "positional", "generalized", "mjx", "compliant", "spring-smoothed")
CELLS = [
    (name, backend)
    for name in registry.names()
    for backend in registry.backends(name)
    if name not in OURS and backend in BACKENDS
]
USABLE = 0.8  # the cosine with finite steps, from which on a gradient is called usable


def results(name: str, backend: str) -> Path:
    """Where a cell's rows are."""
    return FOLDER / "results" / f"{name}-{backend}.json"


def run(name: str, backend: str, seconds: float) -> None:
    """Measures one cell."""
    rows = results(name, backend).with_suffix(".rows")
    flags = ["--env", name, "--backend", backend, "--horizon", HORIZON, "--num-envs", NUM_ENVS]
    flags += ["--seed", SEED, "--json", rows, "--figure", rows.with_suffix(".png")]
    began = time.perf_counter()
    command = [sys.executable, "-m", "rpgjax", "gradcheck", *map(str, flags)]
    content: dict[str, Any] = {}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        if done.returncode:
            content["error"] = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        else:
            content["rows"] = json.loads(rows.read_text())
    except subprocess.TimeoutExpired:
        content["error"] = f"stopped after {seconds:.0f} s"
    content |= {
        "command": "rpgjax " + " ".join(map(str, flags[:-4])),
        "seconds": round(time.perf_counter() - began, 1),
        "versions": versions(),
        "git_commit": git_commit(),
        "device": device_description(),
    }
    for leftover in (rows, rows.with_suffix(".png")):
        leftover.unlink(missing_ok=True)
    results(name, backend).write_text(json.dumps(content, indent=1) + "\n")


def measured() -> dict[tuple[str, str], dict[str, Any]]:
    """What the cells' files say."""
    found = {cell: results(*cell) for cell in CELLS if results(*cell).exists()}
    return {cell: json.loads(path.read_text()) for cell, path in found.items()}


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
    found = measured()
    lines = [f"| task | {' | '.join(BACKENDS)} |", "|---" * (len(BACKENDS) + 1) + "|"]
    for name in sorted({name for name, _ in CELLS}):
        cells = []
        for backend in BACKENDS:
            content = found.get((name, backend))
            if content is None:
                cells.append("not run" if (name, backend) in CELLS else "-")
            elif "error" in content:
                cells.append("see below")
            else:
                longest = usable(content["rows"])
                rate = content["rows"][-1]["gradient_steps_per_second"]
                cells.append(longest if longest == "zero" else f"{longest} ({rate:,.0f}/s)")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table() -> str:
    """A Markdown row for each cell."""
    titles = ["task", "backend", "error, H = 4"]
    for horizon in SHOWN:
        titles += [f"norm, H = {horizon}: median / largest", f"cosine, H = {horizon}"]
    titles += ["forward steps/s", "gradient steps/s", "ratio", "compile s"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for (name, backend), content in measured().items():
        if "error" in content:
            lines.append(f"| {name} | {backend} | {content['error']} |" + " |" * (len(titles) - 3))
            continue
        rows = {row["horizon"]: row for row in content["rows"]}
        cells = [name, backend, number(rows[4]["fd_relative_error"], ".0e")]
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
    found = {cell: c["rows"] for cell, c in measured().items() if "rows" in c}
    # A task whose gradient is zero has nothing to show.
    names = sorted({name for (name, _), rows in found.items() if rows[-1]["grad_norm_max"]})
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
            if (name, backend) not in found:
                continue
            rows = found[name, backend]
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
    head = f"Longest horizon with a cosine of {USABLE} or more (gradient steps/s at H = {HORIZON}):"
    fill_readme(FOLDER, f"{head}\n\n{guide()}\n\nEvery cell:\n\n{table()}")


def main() -> None:
    """Measures what has no results yet, then reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = {f"{name}-{backend}": (name, backend) for name, backend in CELLS}
    parser.add_argument("cells", nargs="*", help=f"of {', '.join(known)}")
    parser.add_argument("--report", action="store_true", help="draw only")
    parser.add_argument("--limit", type=float, default=900, help="seconds for one cell")
    arguments = parser.parse_args()
    if unknown := set(arguments.cells) - set(known):
        parser.error(f"unknown cells: {', '.join(sorted(unknown))}")
    if not arguments.report:
        (FOLDER / "results").mkdir(exist_ok=True)
        missing = [cell for cell in known if not results(*known[cell]).exists()]
        for cell in arguments.cells or missing:
            print(f"== {cell}", flush=True)
            run(*known[cell], arguments.limit)
    report()


if __name__ == "__main__":
    main()
