"""How long until Ant runs: RFO against Brax's own PPO, in turn on the same machine.

python experiments/bench_learning/run.py               the seeds that have no results yet
python experiments/bench_learning/run.py --seeds 0     only these, again
python experiments/bench_learning/run.py --sides rfo   only one side
python experiments/bench_learning/run.py --longest S   stops a run that is not there after S seconds
python experiments/bench_learning/run.py --report      only the figure and the table

Steps and seconds until the first evaluation (deterministic policy, 64 whole episodes) at or above a
return. The seconds count from the start of the process: imports, compiling, training and, for RFO, its
evaluations; PPO's evaluations are not counted, as it has few of them and Brax's are slow.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import median
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import fill_readme
from peer import Point, evaluations, keep, ppo

FOLDER = Path(__file__).parent
ENV, BACKEND = "ant", "spring"
RETURNS = (1500, 3000, 5000)
SEEDS = (0, 1, 2)
STEPS_TARGET, SECONDS_TARGET = 1 / 15, 1 / 4  # of PPO's, in the median


def results(side: str, seed: int) -> Path:
    """Where a run's evaluations are."""
    return FOLDER / "results" / f"{side}-{ENV}-{BACKEND}-seed{seed}.json"


def run(side: str, seed: int, longest: float) -> None:
    """Trains one side on one seed until the highest return, or the time, is up."""
    if side == "rfo":
        command = [sys.executable, str(FOLDER / "ours_rfo.py"), ENV, BACKEND, str(seed)]
    else:
        command = ppo(ENV, BACKEND, seed)  # installs it before the clock runs
    print(f"== {side}, seed {seed}", flush=True)

    def enough(point: Point) -> bool:
        return point["return"] >= max(RETURNS) or point["seconds"] > longest

    keep(results(side, seed), evaluations(command, enough, ours=side == "rfo"), seed)


class Reached(NamedTuple):
    """When a return was reached, or, `beyond`, until when it was not."""

    amount: float
    beyond: bool

    def text(self, form: str) -> str:
        """As the table has it."""
        return ("> " if self.beyond else "") + format(self.amount, form)


def reached(side: str, seed: int, key: str, level: float) -> Reached:
    """The first evaluation at or above a return, or the last of all."""
    points = json.loads(results(side, seed).read_text())["evaluations"]
    there = next((point for point in points if point["return"] >= level), None)
    return Reached((there or points[-1])[key], there is None)


def each(side: str, key: str, level: float) -> list[Reached]:
    """Of every seed that was run."""
    return [reached(side, seed, key, level) for seed in SEEDS if results(side, seed).exists()]


def middle(side: str, key: str, level: float) -> Reached | None:
    """The median over seeds; beyond it where seeds that were stopped are part of it."""
    found = each(side, key, level)
    if not found:
        return None
    value = median(one.amount for one in found)
    return Reached(value, any(one.beyond and one.amount <= value for one in found))


def table() -> str:
    """Markdown: medians over seeds, and every seed."""
    lines = [
        "| return | | RFO | PPO | RFO / PPO | RFO, each seed | PPO, each seed |",
        "|---" * 7 + "|",
    ]
    for level in RETURNS:
        for key, form in (("env_steps", ",.0f"), ("seconds", ".0f")):
            ours, theirs = (middle(side, key, level) for side in ("rfo", "ppo"))
            cells = [value.text(form) if value else "-" for value in (ours, theirs)]
            cells.append(ratio(ours, theirs))
            for side in ("rfo", "ppo"):
                cells.append(", ".join(one.text(form) for one in each(side, key, level)))
            row = [str(level), key.replace("env_", ""), *cells]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def ratio(ours: Reached | None, theirs: Reached | None) -> str:
    """Ours of theirs; a bound where they were stopped first, a dash where we were."""
    if ours is None or theirs is None or ours.beyond:
        return "-"
    return f"{'less than ' if theirs.beyond else ''}1 / {theirs.amount / ours.amount:.1f}"


def verdicts() -> list[str]:
    """PASS or MISS for each target at the highest return; a bound is enough to pass."""
    lines = []
    for key, target in (("env_steps", STEPS_TARGET), ("seconds", SECONDS_TARGET)):
        ours, theirs = (middle(side, key, max(RETURNS)) for side in ("rfo", "ppo"))
        if ours and theirs:
            passed = not ours.beyond and ours.amount / theirs.amount <= target
            said = f"{ratio(ours, theirs)} of PPO's {key.replace('env_', '')}"
            lines.append(f"{'PASS' if passed else 'MISS'}: {said} (target 1 / {1 / target:g})")
    return lines


def draw() -> None:
    """Return over steps and over seconds, a line for each seed."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for side, colour in (("rfo", "C0"), ("ppo", "C1")):
        for seed in (s for s in SEEDS if results(side, s).exists()):
            points = json.loads(results(side, seed).read_text())["evaluations"]
            for axis, key in zip(axes, ("env_steps", "seconds"), strict=True):
                label = side.upper() if seed == SEEDS[0] else None
                returns = [point["return"] for point in points]
                axis.plot([p[key] for p in points], returns, ".-", color=colour, label=label)
    axes[0].set(xscale="log", xlabel="environment steps", ylabel="return (deterministic)")
    axes[1].set(xlabel="seconds, imports and compiling included")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.suptitle(f"Brax {ENV.capitalize()} ({BACKEND}), {os.cpu_count()} CPU cores")
    figure.savefig(FOLDER / "learning.png", dpi=110)


def report() -> None:
    """The figure, and the table on the screen and between the marks in README.md."""
    draw()
    fill_readme(FOLDER, table())
    print(*verdicts(), sep="\n")


def main() -> None:
    """Runs both sides in turn, seed by seed, then reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", choices=SEEDS, help="run these again")
    parser.add_argument("--sides", nargs="*", choices=("rfo", "ppo"), default=("rfo", "ppo"))
    parser.add_argument("--longest", type=float, default=3600.0, help="seconds of one run")
    parser.add_argument("--report", action="store_true", help="draw only")
    arguments = parser.parse_args()
    if not arguments.report:
        (FOLDER / "results").mkdir(exist_ok=True)
        for seed in arguments.seeds or SEEDS:
            for side in arguments.sides:
                if arguments.seeds or not results(side, seed).exists():
                    run(side, seed, arguments.longest)
    report()


if __name__ == "__main__":
    main()
