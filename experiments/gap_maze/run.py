"""GapMaze: how much of a maze without rewards does RPG see, and what does its latent add?

python experiments/gap_maze/run.py [VARIANT ...] [--seeds 0 1 2]   what has no results yet
python experiments/gap_maze/run.py --sizes paper                   at the paper's sizes: hours a seed on a CPU
python experiments/gap_maze/run.py --sizes half --together         what is missing as one program: for a GPU
python experiments/gap_maze/run.py --report                        only the figures and the table

Small networks are a quarter as wide as the paper's and batches an eighth, 1% of the arithmetic; half
sizes are the paper's networks and half its batch. Each seed is a run of its own in runs/gap_maze, which goes
on where it was stopped; --together keeps nothing but the results, which it writes again every few
seconds. Coverage is the paper's: the fraction of the 100 squares of 1 m that training has visited, read
off the replay buffer.
"""

import argparse
import sys
from dataclasses import replace
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
    spread,
    steps_held,
    together,
    write,
)

from rpgjax.agents import rpg
from rpgjax.envs.gap_maze import HALF, GapMaze, gap_maze
from rpgjax.presets import preset

FOLDER = Path(__file__).parent
RUNS = Path("runs") / "gap_maze"
SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden": (64, 64), "model_size": 32, "novelty_width": 128, "batch_size": 64},
    "half": {"batch_size": 256},
    "paper": {},
}
RESULTS = {  # folders of results, and what is in them
    "small": "small",
    "unfused": "small, before commit a9ace83",
    "half": "half",
    "paper": "paper",
}
EVERY = 5000  # environment steps between two points of a curve


class Variant(NamedTuple):
    """A way to explore."""

    label: str
    algorithm: str
    changes: dict[str, Any]  # of its preset, in a run of its own
    together: dict[str, float] | None  # the same of RPG's, within one program; None: it can't be
    published: float | None  # the paper's coverage
    seeds: int = 3


VARIANTS = {
    "rpg": Variant("RPG, z ~ N(0, I) in 12-d", "rpg", {}, {}, 0.92, seeds=5),
    "mbsac": Variant("no z (MBSAC)", "mbsac", {}, {"latent_unused": 12.0}, 0.66),
    "information_0.05": Variant(
        "beta 0.05", "rpg", {"information": 0.05}, {"information": 0.05}, 0.65
    ),
    "information_0.005": Variant(
        "beta 0.005", "rpg", {"information": 0.005}, {"information": 0.005}, 0.86
    ),
    "information_0.0001": Variant(
        "beta 0.0001", "rpg", {"information": 1e-4}, {"information": 1e-4}, 0.68
    ),
    "latent_1": Variant("z in 1-d", "rpg", {"latent_size": 1}, {"latent_unused": 11.0}, 0.73),
    "official": Variant(
        "the official code's weights",
        "rpg_official",
        {},
        {"state_weight": 10_000.0, "reward_weight": 10.0, "value_weight": 1.0},
        None,
    ),
    "discrete": Variant(
        "z one of 12",
        "rpg",
        {"latent": "discrete", "latent_entropy": 10.0, "information": 0.1},
        None,
        0.79,
    ),
}


def results(name: str, seed: int | str, folder: str) -> Path:
    """Where a run's numbers are; `folder` is one of `RESULTS`."""
    return FOLDER / f"results_{folder}" / f"{name}-seed{seed}.json"


def train(name: str, seed: int, sizes: str) -> None:
    """Trains a seed, or goes on with it, and writes its results."""
    variant = VARIANTS[name]
    folder = RUNS / f"{name}-{sizes}-seed{seed}"
    settings = {"seed": seed} | SIZES[sizes] | variant.changes
    run = one_seed(folder, variant.algorithm, "gap_maze", settings)
    keep(results(name, seed, sizes), seen(run.state.replay), provenance(run) | cost(run))


def train_together(members: list[tuple[str, int]], sizes: str) -> None:
    """Trains variants' seeds as one program, and writes their results."""
    settings = preset("rpg", "gap_maze")
    settings = replace(settings, agent=replace(settings.agent, **SIZES[sizes]))
    own = [(seed, VARIANTS[name].together or {}) for name, seed in members]
    for stage, contents in together(gap_maze(), settings, rpg, own, 480):
        paths = seen(stage.state.replay)
        for (name, seed), path, content in zip(members, paths, contents, strict=True):
            keep(results(name, seed, sizes), path, content)
        covered = ", ".join(f"{np.isfinite(first_entries(path)).mean():.2f}" for path in paths)
        print(f"update {stage.update}, {stage.seconds:.0f} s: {covered}", flush=True)


def seen(replay: Any) -> np.ndarray:
    """Positions (..., environment, T, 2) since the start, m, from a run's replay buffer."""
    held = np.asarray(replay.experience.next_observation[..., :2]) / gap_maze().shrink
    return held[..., : steps_held(replay), :]


def keep(path: Path, positions: np.ndarray, content: dict[str, Any]) -> None:
    """What a run saw, positions (environment, T, 2), and where its numbers come from."""
    envs, count = positions.shape[:2]
    steps = np.append(np.arange(EVERY, envs * count, EVERY), envs * count)
    squares = np.histogram2d(*positions.reshape(-1, 2).T, bins=50, range=[[-5.0, 5.0]] * 2)[0]
    curve = {
        "env_steps": steps.tolist(),
        "coverage": (first_entries(positions)[:, None] < steps // envs).mean(0).tolist(),
        "squares": squares.astype(int).tolist(),
    }
    write(path, curve | content)


def first_entries(positions: np.ndarray) -> np.ndarray:
    """When each of the 100 squares was first entered, in steps of every environment; inf: never."""
    squares = np.clip(np.floor(positions + HALF), 0, 2 * HALF - 1).astype(int)
    return first_visits(squares, (10, 10), np.arange(positions.shape[1]))


def read(name: str, folder: str, seed: int | str = "*") -> list[dict[str, Any]]:
    """A variant's seeds, or one, that went to their end: one program writes its members' as they go."""
    goal = preset("rpg", "gap_maze").updates
    found = read_seeds(results(name, seed, folder))
    return [run for run in found if run["settings"]["updates"] >= goal]


def table() -> str:
    """Markdown: a row for each variant with results."""
    lines = [
        "| sizes | policy | coverage, mean [lowest, highest] | seeds | the paper's |",
        "|---" * 5 + "|",
    ]
    for folder, kind in RESULTS.items():
        for name, variant in VARIANTS.items():
            last = np.array([seed["coverage"][-1] for seed in read(name, folder)])
            if last.size:
                published = f"{variant.published:.2f}" if variant.published else "-"
                lines.append(
                    f"| {kind} | {variant.label} | {spread(last, 2)} | {last.size} | {published} |"
                )
    return "\n".join(lines)


def draw() -> None:
    """Of the sizes with most runs: coverage, mean and range of seeds; where the first seed has been."""
    sizes = max(SIZES, key=lambda sizes: sum(len(read(name, sizes)) for name in VARIANTS))
    names = [name for name in VARIANTS if read(name, sizes)]
    if not names:
        return
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for index, name in enumerate(names):
        seeds = read(name, sizes)
        count = min(len(seed["coverage"]) for seed in seeds)
        values = np.array([seed["coverage"][:count] for seed in seeds])
        steps = np.array(seeds[0]["env_steps"][:count]) / 1e6
        axis.plot(steps, values.mean(0), color=f"C{index}", label=VARIANTS[name].label)
        axis.fill_between(steps, values.min(0), values.max(0), color=f"C{index}", alpha=0.2)
    axis.set(xlabel="environment steps (millions)", ylabel="coverage", ylim=(0, 1))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.savefig(FOLDER / "coverage.png", dpi=110)
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.4 * len(names), 3.6), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], names, strict=True):
        counts = np.array(read(name, sizes)[0]["squares"])
        axis.imshow(np.log1p(counts.T), origin="lower", extent=(-5, 5, -5, 5), cmap="viridis")
        for wall in GapMaze().walls():
            axis.plot(*np.transpose(wall), color="white", lw=1)
        axis.set(title=VARIANTS[name].label, xticks=[], yticks=[])
    figure.suptitle("Visits during training (log), one seed each")
    figure.savefig(FOLDER / "visits.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", type=int, nargs="+", help="of every variant")
    parser.add_argument("--sizes", choices=SIZES, default="small", help="of networks and batches")
    parser.add_argument("--together", action="store_true", help="as one program, for a GPU")
    parser.add_argument("--report", action="store_true", help="draw only")
    arguments = parser.parse_args()
    if unknown := set(arguments.variants) - set(VARIANTS):
        parser.error(f"unknown variants: {', '.join(sorted(unknown))}")
    if not arguments.report:
        missing = [
            (name, seed)
            for name in arguments.variants or VARIANTS
            for seed in arguments.seeds or range(VARIANTS[name].seeds)
            if not read(name, arguments.sizes, seed)
        ]
        if arguments.together:
            alone = {name for name, _ in missing if VARIANTS[name].together is None}
            if alone & set(arguments.variants):
                parser.error(f"not within one program: {', '.join(sorted(alone))}")
            if able := [one for one in missing if one[0] not in alone]:
                train_together(able, arguments.sizes)
        else:
            for name, seed in missing:
                train(name, seed, arguments.sizes)
    draw()
    fill_readme(FOLDER, table())


if __name__ == "__main__":
    main()
