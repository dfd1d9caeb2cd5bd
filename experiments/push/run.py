"""BlockPush and AntPush: how often does RPG succeed, and what does its latent add?

python experiments/push/run.py                                 what has no results yet, at the paper's length
python experiments/push/run.py block_push mbsac --seeds 0 1 2  these runs
python experiments/push/run.py block_push --steps 100000       shorter ones, in a folder of their own
python experiments/push/run.py --sizes paper                   at the paper's sizes
python experiments/push/run.py --together                      what is missing as one program: for a GPU
python experiments/push/run.py --report                        only the figure and the table

Small networks are half as wide as the paper's (novelty's a quarter) and batches an eighth, so that a core
can pay for the paper's rate of one update for 5 environment steps. All run 40 environments, where the
paper has 5. Each seed is a run of its own in runs/push, which goes on where it was stopped; --together
keeps nothing but the results, which it writes again now and then. Success is counted in training, with
the sampled policy: BlockPush's where an episode ever pays, AntPush's where its last step is within 5 m of
the goal. Places are how many were ever visited: BlockPush's of both blocks on a grid of 0.45 m (of 6561),
AntPush's of the ant on a grid of 2 m.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import (
    cost,
    fill_readme,
    first_visits,
    one_seed,
    provenance,
    read_seeds,
    replayed,
    spread,
    steps_held,
    together,
    write,
)

from rpgjax.agents import rpg
from rpgjax.envs.ant_mazes import NEAR
from rpgjax.envs.registry import make
from rpgjax.presets import preset
from rpgjax.training.settings import TrainSettings

FOLDER = Path(__file__).parent
RUNS = Path("runs") / "push"
EVERY = 20_000  # environment steps between two points of a curve
VARIANTS: dict[str, tuple[str, dict[str, float]]] = {  # labels; the same as fields of RPG's
    "rpg": ("RPG, z ~ N(0, I) in 12-d", {}),
    "mbsac": ("no z (MBSAC)", {"latent_unused": 12.0}),
}
SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden": (128, 128), "model_size": 64, "novelty_width": 128, "batch_size": 64},
    "paper": {},
}
RESULTS = {  # folders of results, and what is in them
    "small": "small",
    "unfused": "small, before commit a9ace83",
    "share": "small, paid episodes drawn to the end, one H200",
    "even": "small, drawn evenly",
    "paper": "paper",
}
AT_ONCE = {"num_envs": 40, "updates_per_call": 80}  # 10 steps of each in a call: one update for 5


class Task(NamedTuple):
    """A task, what counts as success, and what as a place."""

    label: str
    steps: int  # the paper's
    success: Callable[[np.ndarray], bool]  # of an episode's rewards (T,)
    published: dict[str, float]  # success, by variant
    changes: dict[str, Any]  # of the preset
    objects: slice  # of observations, whose raw part is shrunk: their middles, in m
    cell: float  # m


TASKS = {
    "block_push": Task(
        "BlockPush, 2 blocks",
        2_000_000,
        lambda r: bool(r.max() > 0),
        {"rpg": 1.0, "mbsac": 0.34},
        {"information": 0.005, "paid_share": 0.5},
        slice(2, 6),
        0.45,
    ),
    "ant_push": Task(
        "AntPush",
        1_000_000,
        lambda r: bool(r[-1] > -0.1 * NEAR),
        {"rpg": 0.73, "mbsac": 0.23},
        {},
        slice(0, 2),
        2.0,
    ),
}


def results(env: str, name: str, seed: int | str, folder: str) -> Path:
    """Where a run's numbers are; `folder` is one of `RESULTS`, or of shorter runs."""
    return FOLDER / f"results_{folder}" / f"{env}-{name}-seed{seed}.json"


def settings_of(env: str, name: str, steps: int, sizes: str) -> TrainSettings:
    """A variant's settings, without a seed."""
    settings = preset(name, env)
    agent = replace(settings.agent, **AT_ONCE, **SIZES[sizes], **TASKS[env].changes)
    call = agent.num_envs * agent.steps_per_call
    return replace(
        settings, updates=steps // call, agent=replace(agent, replay_size=steps + 2 * call)
    )


def train(env: str, name: str, seed: int, steps: int, sizes: str, path: Path) -> None:
    """Trains a seed, or goes on with it, and writes its results."""
    folder = RUNS / f"{env}-{name}-{sizes}-seed{seed}-{steps}"
    settings = replace(settings_of(env, name, steps, sizes), seed=seed)
    changes = asdict(settings.agent) | {"seed": seed, "updates": settings.updates}
    run = one_seed(folder, name, env, changes)
    held = replayed(run)
    objects = held.next_observation[..., TASKS[env].objects] / make(env).shrink
    seen = curves(env, held.reward, held.ended, objects)
    write(path, seen | provenance(run) | cost(run))


def train_together(
    env: str, members: list[tuple[str, int]], steps: int, sizes: str, paths: list[Path]
) -> None:
    """Trains variants' seeds as one program, and writes their results."""
    settings = settings_of(env, "rpg", steps, sizes)
    own = [(seed, VARIANTS[name][1]) for name, seed in members]
    task = make(env)
    for stage, contents in together(task, settings, rpg, own, max(1, settings.updates // 20)):
        held, count = stage.state.replay.experience, steps_held(stage.state.replay)
        rewards, ended = (np.asarray(x)[..., :count] for x in (held.reward, held.ended))
        objects = np.asarray(held.next_observation[..., :count, TASKS[env].objects]) / task.shrink
        lasts = []
        for index, path in enumerate(paths):
            seen = curves(env, rewards[index], ended[index], objects[index])
            if seen["places"]:  # a point of the curve, at least
                write(path, seen | contents[index])
            lasts.append(f"{seen['success'][-1]} {seen['places'][-1]}" if seen["places"] else "-")
        said = f"update {stage.update}, {stage.seconds:.0f} s: success and places"
        print(said, ", ".join(lasts), flush=True)


def curves(
    env: str, rewards: np.ndarray, ended: np.ndarray, objects: np.ndarray
) -> dict[str, list[Any]]:
    """How often a run succeeded and how many places it saw, every 20,000 environment steps.

    By rewards and ends (environment, T), and where objects were (environment, T, n). Success is None
    where no episode ended.
    """
    ends, won = [], []  # environment steps by then, and whether it was a success
    for paid, over in zip(rewards, ended, strict=True):
        last = np.flatnonzero(over)
        for start, end in zip(last[:-1] + 1, last[1:] + 1, strict=True):  # the first is cut short
            ends.append(end * len(rewards))
            won.append(TASKS[env].success(paid[start:end]))
    ends, won = np.array(ends), np.array(won, float)
    points = np.arange(EVERY, rewards.size + 1, EVERY)
    inside = [(ends > point - EVERY) & (ends <= point) for point in points]
    places = np.round(objects / TASKS[env].cell).astype(int)
    low, high = places.min(axis=(0, 1)), places.max(axis=(0, 1))
    when = np.arange(rewards.size).reshape(rewards.shape[::-1]).T  # environments step side by side
    first = first_visits(places - low, tuple(high - low + 1), when)
    return {
        "env_steps": points.tolist(),
        "success": [float(won[one].mean()) if one.any() else None for one in inside],
        "places": np.searchsorted(np.sort(first), points).tolist(),
    }


def read(env: str, name: str, folder: str) -> list[dict]:
    """A variant's seeds."""
    return read_seeds(results(env, name, "*", folder))


def table() -> str:
    """Markdown: a row for each variant with results."""
    lines = [
        "| task | policy | seeds | environment steps | success, mean [lowest, highest] "
        "| at 0.95 after | the paper's, at | places | steps/s |",
        "|---" * 9 + "|",
    ]
    for folder, kind in RESULTS.items():
        for env, task in TASKS.items():
            for name, (label, _) in VARIANTS.items():
                if seeds := read(env, name, folder):
                    lines.append(_row(f"{task.label}, {kind}", label, seeds, task, name))
    return "\n".join(lines)


def _row(title: str, label: str, seeds: list[dict], task: Task, name: str) -> str:
    last = np.array([seed["success"][-1] for seed in seeds], float)  # None: no episode ended
    steps = ", ".join(_millions(seed["env_steps"][-1]) for seed in seeds)
    good = ", ".join(_millions(_first(seed, 0.95)) for seed in seeds)
    places = ", ".join(str(seed["places"][-1]) for seed in seeds)
    rate = np.median([seed["steps_per_second"] for seed in seeds])
    return (
        f"| {title} | {label} | {last.size} | {steps} | {spread(last, 2)} | {good} |"
        f" {task.published[name]:.2f}, {_millions(task.steps)} | {places} | {rate:.0f} |"
    )


def _first(seed: dict, level: float) -> int | None:
    """Environment steps until success is there for the first time."""
    pairs = zip(seed["env_steps"], seed["success"], strict=True)
    return next((steps for steps, success in pairs if (success or 0.0) >= level), None)


def _millions(steps: int | None) -> str:
    return "-" if steps is None else f"{steps / 1e6:.2f}M"


def draw() -> None:
    """Success over steps, a line for each seed, a panel for each folder of results."""
    found = [
        (env, folder)
        for env in TASKS
        for folder in RESULTS
        if any(read(env, name, folder) for name in VARIANTS)
    ]
    if not found:
        return
    figure, axes = plt.subplots(
        1,
        len(found),
        figsize=(4.5 * len(found), 4.2),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    for axis, (env, folder) in zip(axes[0], found, strict=True):
        for index, (name, (label, _)) in enumerate(VARIANTS.items()):
            for number, seed in enumerate(read(env, name, folder)):
                steps = np.array(seed["env_steps"]) / 1e6
                shown = label if number == 0 else None
                axis.plot(steps, np.array(seed["success"], float), color=f"C{index}", label=shown)
        axis.set(xlabel="environment steps (millions)", ylim=(-0.02, 1.02))
        axis.set_title(f"{TASKS[env].label}\n{RESULTS[folder]}", fontsize=10)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("success")
    legends = (axis.get_legend_handles_labels() for axis in axes[0])
    lines, labels = max(legends, key=lambda legend: len(legend[1]))  # not all have both variants
    figure.legend(lines, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(FOLDER / "success.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = (*TASKS, *VARIANTS)
    parser.add_argument("names", nargs="*", help=f"tasks and variants, of {', '.join(known)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="environment steps; the paper's by default")
    parser.add_argument("--sizes", choices=SIZES, default="small", help="of networks and batches")
    parser.add_argument("--together", action="store_true", help="as one program, for a GPU")
    parser.add_argument("--report", action="store_true", help="draw only")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(known):
        parser.error(f"unknown names: {', '.join(sorted(unknown))}")
    if arguments.steps is not None and arguments.steps < EVERY:
        parser.error(f"--steps is {arguments.steps}; a curve has a point every {EVERY}")
    if not arguments.report:
        for env in [env for env in TASKS if env in arguments.names] or TASKS:
            steps, sizes = arguments.steps or TASKS[env].steps, arguments.sizes
            folder = f"{sizes}_{steps}" if arguments.steps else sizes
            paths = {
                (name, seed): results(env, name, seed, folder)
                for name in [name for name in VARIANTS if name in arguments.names] or VARIANTS
                for seed in arguments.seeds
            }
            missing = [run for run, path in paths.items() if not path.exists()]
            if arguments.together and missing:
                train_together(env, missing, steps, sizes, [paths[run] for run in missing])
                continue
            for name, seed in missing:
                train(env, name, seed, steps, sizes, paths[name, seed])
    draw()
    fill_readme(FOLDER, table())


if __name__ == "__main__":
    main()
