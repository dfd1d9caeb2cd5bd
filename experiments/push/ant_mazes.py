"""AntPush and AntMaze through the simulator: do ants find the way around, and what finds it?

python experiments/push/ant_mazes.py                    what has no results yet
python experiments/push/ant_mazes.py no_z --seeds 0 1   these runs
python experiments/push/ant_mazes.py --report           only the figure and the tables

RPG through physics (`rpg_physics`) with a flow, z one of four by soft Q, told from where ant and block
are, novelty of these, and an archive of states to start from; and the same without one of these: without an
archive also with training's episodes as long as the task's, since those of ten seconds are short from
there. Each seed is
a run of its own in runs/push, which goes on where it was stopped. In the end each plays 256 episodes, 128
with each z, and 128 in which it is measured whether the way is walked, and not through a wall.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import cost, fill_readme, one_seed, provenance, read_seeds, spread, write

from rpgjax.agents.agent import told
from rpgjax.envs.ant_mazes import BLOCK, SIDE
from rpgjax.training.evaluate import evaluation_key, evaluator
from rpgjax.training.latent_figures import drawn, play
from rpgjax.training.launch import Run, evaluate
from rpgjax.types import Array

FOLDER = Path(__file__).parent
RUNS = Path("runs") / "push"
SETTINGS: dict[str, Any] = {"eval_every": 800, "eval_episodes": 32}  # beside the preset
TASKS = {"ant_push": "AntPush", "ant_maze": "AntMaze"}


class Variant(NamedTuple):
    """What is run, and how it is called."""

    label: str
    seeds: int
    differs: dict[str, Any]  # from the preset
    task: str = "ant_push"


VARIANTS = {
    "preset": Variant("z one of four", 4, {}),
    "no_archive": Variant("no archive", 3, {"archive_size": 0}),
    "no_archive_long": Variant(
        "no archive, episodes of 40 s in training",
        2,
        {"archive_size": 0, "training_length": 0},
    ),
    "no_z": Variant("no z", 3, {"latent_size": 1}),
    "no_novelty": Variant("nothing paid for novelty", 3, {"novelty_scale": 0.0}),
    "smooth": Variant("places seen smoothly", 3, {"object_frequencies": 0}),
    "maze": Variant("z one of four", 3, {}, "ant_maze"),
}
EPISODES, EACH = 256, 128  # in the end, and with each z
PAPER = 0.73  # success after 1M environment steps, Huang et al., ICML 2023
CURVES = ("success", "stochastic_success", "return_mean", "stochastic_return_mean")


def results(name: str, seed: int | str) -> Path:
    """Where a run's numbers are."""
    return FOLDER / "results_physics" / f"{name}-seed{seed}.json"


def train(name: str, seed: int) -> None:
    """Trains a seed, or goes on with it, and writes its results."""
    variant = VARIANTS[name]
    settings = SETTINGS | variant.differs | {"seed": seed}
    run = one_seed(RUNS / f"ants-{name}-seed{seed}", "rpg_physics", variant.task, settings)
    rows = [row for row in run.rows[0] if "eval/success" in row]
    curves = {key: [row[f"eval/{key}"] for row in rows] for key in CURVES}
    curves["env_steps"] = [row["env_steps"] for row in rows]
    end = evaluate(run, EPISODES)
    content = {"in_the_end": {key: end[f"eval/{key}"] for key in CURVES}, "each_z": each_z(run)}
    content["at_most"] = at_most(run)
    write(results(name, seed), curves | content | provenance(run) | cost(run))


def each_z(run: Run) -> dict[str, list[float]]:
    """How often each z is drawn, and how many episodes with it succeed, deterministic and sampled."""
    count = run.settings.agent.latent_size
    states = jax.tree.map(lambda leaf: leaf[None], run.state)
    keys = evaluation_key(run.settings.seed, run.update)[None]

    @jax.jit
    def success(z: Array) -> tuple[Array, Array]:
        agent = run.agent._replace(policy=lambda state: told(run.agent.policy(state), z))
        found = evaluator(agent, run.env, EACH, run.episode_length)(states, keys)
        return found["eval/success"][0], found["eval/stochastic_success"][0]

    pairs = [success(z) for z in jnp.eye(count)]
    return {
        "drawn": drawn(run, run.state, EPISODES).mean(axis=0).tolist(),
        "success": [float(mode) for mode, _ in pairs],
        "stochastic_success": [float(sampled) for _, sampled in pairs],
    }


def at_most(run: Run) -> dict[str, float]:
    """In m, over 128 sampled episodes: how high the torso was, how deep its middle in walls and block, and
    the block in walls. Below zero: so far away it stayed."""
    maze, shrink = run.env.unwrapped.maze, run.env.shrink
    q = play(run, run.state, EACH).observation / shrink
    torso, x, y = q[..., 2], q[..., 0], q[..., 1]
    walls = [(*wall, 0.5 * SIDE) for wall in maze.walls()]
    found = {
        "torso_height": torso.max(),
        "torso_in_walls": max(depth(x, y, *wall) for wall in walls),
    }
    for cell in maze.cells("b"):
        middle = maze.middle(*map(float, cell))
        u, v = middle[0] + q[..., 15], middle[1] + q[..., 16]
        found["torso_in_block"] = depth(x, y, u, v, BLOCK, BLOCK)
        found["block_in_walls"] = max(
            depth(u, v, a, b, c + BLOCK, d + BLOCK) for a, b, c, d in walls
        )
    return {name: round(float(value), 3) for name, value in found.items()}


def depth(x: Any, y: Any, middle_x: Any, middle_y: Any, half_x: float, half_y: float) -> float:
    """How deep the points ever are in an upright box, m."""
    return np.minimum(half_x - np.abs(x - middle_x), half_y - np.abs(y - middle_y)).max()


def table() -> str:
    """Markdown: the end of training, and what each z comes to."""
    lines = [
        "| task | policy | seeds | environment steps | success, deterministic | sampled "
        "| return, deterministic | sampled | minutes |",
        "|---" * 9 + "|",
    ]
    for name, variant in VARIANTS.items():
        if seeds := read_seeds(results(name, "*")):
            lines.append(f"| {TASKS[variant.task]} | {variant.label} | {ends(seeds)} |")
    lines += [
        "",
        "| task | seed | how often each z is drawn | success with it, deterministic "
        "| torso's highest, m | its middle's deepest in walls, in the block | the block's in walls |",
        "|---" * 7 + "|",
    ]
    for name in ("preset", "maze"):
        for seed in read_seeds(results(name, "*")):
            cells = (seed["each_z"][key] for key in ("drawn", "success"))
            row = (" ".join(f"{share:.2f}" for share in cell) for cell in cells)
            task = TASKS[VARIANTS[name].task]
            lines.append(
                f"| {task} | {seed['settings']['seed']} | {' | '.join(row)} | {most(seed)} |"
            )
    return "\n".join(lines)


def most(seed: dict[str, Any]) -> str:
    """Cells: `at_most`, m."""
    height, in_walls, *of_block = (f"{value:.2f}" for value in seed["at_most"].values())
    in_block, block = of_block or ("-", "-")
    return f"{height} | {in_walls}, {in_block} | {block}"


def ends(seeds: list[dict[str, Any]]) -> str:
    """Cells: how many seeds, their environment steps, success and returns in the end, and minutes."""
    steps = min(seed["env_steps"][-1] for seed in seeds)
    cells = [spread([seed["in_the_end"][key] for seed in seeds], digits=2) for key in CURVES[:2]]
    cells += [spread([seed["in_the_end"][key] for seed in seeds]) for key in CURVES[2:]]
    minutes = np.mean([seed["wall_seconds"] for seed in seeds]) / 60.0
    return " | ".join([str(len(seeds)), f"{steps:,}", *cells, f"{minutes:.0f}"])


def draw() -> None:
    """Success of the deterministic policy over steps, a line for each seed, a panel for each task."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
    for axis, task in zip(axes, TASKS, strict=True):
        shown = {name: each for name, each in VARIANTS.items() if each.task == task}
        for index, (name, variant) in enumerate(shown.items()):
            for number, seed in enumerate(read_seeds(results(name, "*"))):
                steps, label = np.array(seed["env_steps"]) / 1e6, None if number else variant.label
                axis.plot(steps, seed["success"], color=f"C{index}", alpha=0.8, label=label)
        axis.set(title=TASKS[task], xlabel="environment steps (millions)", ylim=(-0.02, 1.02))
        axis.grid(alpha=0.3)
    axes[0].axhline(PAPER, color="gray", linestyle="--", label="the paper's, after 1M")
    axes[0].set_ylabel("success")
    lines, labels = axes[0].get_legend_handles_labels()  # AntMaze's are among them
    figure.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(FOLDER / "ant_mazes.png", dpi=110)


def main() -> None:
    """Trains what has no results yet, then reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--seeds", type=int, nargs="+", help="all of a variant's by default")
    parser.add_argument("--report", action="store_true", help="only the figure and the tables")
    arguments = parser.parse_args()
    if unknown := set(arguments.variants) - set(VARIANTS):
        parser.error(f"unknown variants: {', '.join(sorted(unknown))}")
    for name in () if arguments.report else arguments.variants or VARIANTS:
        for seed in arguments.seeds or range(VARIANTS[name].seeds):
            if not results(name, seed).exists():
                train(name, seed)
    draw()
    fill_readme(FOLDER, table(), "physics")


if __name__ == "__main__":
    main()
