"""BlockPush and AntPush: how often does RPG succeed, and what does its latent add?

python experiments/push/run.py                                 what has no results yet, at the paper's length
python experiments/push/run.py block_push mbsac --seeds 0 1 2  these runs
python experiments/push/run.py block_push --steps 100000       shorter ones, again where there are results
python experiments/push/run.py --paper                         at the paper's sizes
python experiments/push/run.py --report                        only the figure and the table

Without --paper networks are half as wide and batches a quarter: a sixteenth of the work. Each seed is a
run of its own in runs/push, which goes on where it was stopped. Success is counted in training, with the
sampled policy: BlockPush's where an episode ever pays, AntPush's where its last step is within 5 m of the
goal.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import SMALL_RPG, cost, fill_readme, one_seed, provenance, read_seeds, replayed

from rpgjax.agents import RPGConfig
from rpgjax.envs.ant_mazes import NEAR

FOLDER = Path(__file__).parent
RUNS = Path("runs") / "push"
EVERY = 20_000  # environment steps between two points of a curve
CALL = RPGConfig.num_envs * RPGConfig.steps_per_call  # environment steps in a call
VARIANTS = {"rpg": "RPG, z ~ N(0, I) in 12-d", "mbsac": "no z (MBSAC)"}


class Task(NamedTuple):
    """A task, and what counts as success."""

    label: str
    steps: int  # the paper's
    success: Callable[[np.ndarray], bool]  # of an episode's rewards (T,)
    published: dict[str, float]  # success, by variant


TASKS = {
    "block_push": Task(
        "BlockPush, 2 blocks", 2_000_000, lambda r: bool(r.max() > 0), {"rpg": 1.0, "mbsac": 0.34}
    ),
    "ant_push": Task(
        "AntPush", 1_000_000, lambda r: bool(r[-1] > -0.1 * NEAR), {"rpg": 0.73, "mbsac": 0.23}
    ),
}


def results(env: str, name: str, seed: int | str, paper: bool) -> Path:
    """Where a run's numbers are."""
    folder = "results_paper" if paper else "results"
    return FOLDER / folder / f"{env}-{name}-seed{seed}.json"


def train(env: str, name: str, seed: int, steps: int, paper: bool) -> None:
    """Trains a seed, or goes on with it, and writes its results."""
    folder = RUNS / f"{env}-{name}{'-paper' if paper else ''}-seed{seed}-{steps}"
    settings = {"seed": seed, "updates": steps // CALL, "replay_size": steps + CALL}
    settings |= {} if paper else SMALL_RPG
    run = one_seed(folder, name, env, settings)
    held = replayed(run)
    ends, won = [], []  # environment steps by then, and whether it was a success
    for rewards, ended in zip(held.reward, held.ended, strict=True):
        last = np.flatnonzero(ended)
        for start, end in zip(last[:-1] + 1, last[1:] + 1, strict=True):  # the first is cut short
            ends.append(end * len(held.reward))
            won.append(TASKS[env].success(rewards[start:end]))
    ends, won = np.array(ends), np.array(won, float)
    points = np.arange(EVERY, steps + 1, EVERY)
    inside = [(ends > point - EVERY) & (ends <= point) for point in points]
    content = {
        "env_steps": points.tolist(),
        "success": [float(won[one].mean()) if one.any() else None for one in inside],
        "return": [row["eval/return_mean"] for row in run.rows[0] if "eval/return_mean" in row],
    }
    content |= provenance(run) | cost(run)
    path = results(env, name, seed, paper)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content) + "\n")


def read(env: str, name: str, paper: bool = False) -> list[dict]:
    """A variant's seeds."""
    return read_seeds(results(env, name, "*", paper))


def table() -> str:
    """Markdown: a row for each variant with results."""
    lines = [
        "| task | policy | seeds | environment steps | success, mean [lowest, highest] | the paper's, at |"
        " steps/s |",
        "|---" * 7 + "|",
    ]
    for paper in (False, True):
        for env, task in TASKS.items():
            for name, label in VARIANTS.items():
                if seeds := read(env, name, paper):
                    sizes = ", the paper's sizes" if paper else ""
                    lines.append(_row(f"{task.label}{sizes}", label, seeds, task, name))
    return "\n".join(lines)


def _row(title: str, label: str, seeds: list[dict], task: Task, name: str) -> str:
    last = np.array([seed["success"][-1] for seed in seeds], float)
    steps = min(seed["env_steps"][-1] for seed in seeds)
    rate = np.median([seed["steps_per_second"] for seed in seeds])
    return (
        f"| {title} | {label} | {last.size} | {steps:,} |"
        f" {last.mean():.2f} [{last.min():.2f}, {last.max():.2f}] |"
        f" {task.published[name]:.2f}, {task.steps:,} | {rate:.0f} |"
    )


def draw() -> None:
    """Success over steps, mean and range of seeds."""
    found = [env for env in TASKS if any(read(env, name) for name in VARIANTS)]
    if not found:
        return
    figure, axes = plt.subplots(
        1, len(found), figsize=(5.5 * len(found), 4), squeeze=False, layout="constrained"
    )
    for axis, env in zip(axes[0], found, strict=True):
        for index, (name, label) in enumerate(VARIANTS.items()):
            seeds = read(env, name)
            if not seeds:
                continue
            count = min(len(seed["success"]) for seed in seeds)
            values = np.array([seed["success"][:count] for seed in seeds], float)
            steps = np.array(seeds[0]["env_steps"][:count]) / 1e6
            axis.plot(steps, values.mean(0), color=f"C{index}", label=label)
            axis.fill_between(steps, values.min(0), values.max(0), color=f"C{index}", alpha=0.2)
        axis.set(xlabel="environment steps (millions)", ylabel="success", ylim=(-0.02, 1.02))
        axis.set_title(TASKS[env].label)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(FOLDER / "success.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = (*TASKS, *VARIANTS)
    parser.add_argument("names", nargs="*", help=f"tasks and variants, of {', '.join(known)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="environment steps; the paper's by default")
    parser.add_argument("--paper", action="store_true", help="at the paper's sizes")
    parser.add_argument("--report", action="store_true", help="draw only")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(known):
        parser.error(f"unknown names: {', '.join(sorted(unknown))}")
    if not arguments.report:
        for env in [env for env in TASKS if env in arguments.names] or TASKS:
            for name in [name for name in VARIANTS if name in arguments.names] or VARIANTS:
                for seed in arguments.seeds:
                    there = results(env, name, seed, arguments.paper).exists()
                    if arguments.steps or not there:
                        steps = arguments.steps or TASKS[env].steps
                        train(env, name, seed, steps, arguments.paper)
    draw()
    fill_readme(FOLDER, table())


if __name__ == "__main__":
    main()
