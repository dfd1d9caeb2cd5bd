"""AntPush through the simulator, paid for novelty: does it find the way around the block?

python experiments/push/ant_push_physics.py              seeds 0 to 6, what has no results yet
python experiments/push/ant_push_physics.py --seeds 0    only this one
python experiments/push/ant_push_physics.py --together   eight seeds of a few settings at once, for a GPU
python experiments/push/ant_push_physics.py --report     only the figure and the table

RPG through physics (`rpg_physics`) with a flow, z one of four by soft Q, told from where ant and block
are, and novelty of these.
Each seed is a run of its own in runs/push, which goes on where it was stopped. In the end episodes are
played from starts further and further to the left, where the way around begins. --together keeps nothing
but results, which it writes again at every evaluation.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import cost, fill_readme, one_seed, provenance, read_seeds, spread, together, write

from rpgjax.agents.rpg_physics import rpg_physics
from rpgjax.envs.quiet import quiet_brax
from rpgjax.envs.registry import make
from rpgjax.training.build import resolve
from rpgjax.training.evaluate import evaluation_key, evaluator
from rpgjax.training.launch import Run
from rpgjax.types import Array, Key

with quiet_brax():
    from brax.envs import Env, State, Wrapper

FOLDER = Path(__file__).parent
RUNS = Path("runs") / "push"
SETTINGS: dict[str, Any] = {"eval_every": 800, "eval_episodes": 32}  # beside the preset
MEMBERS: dict[str, tuple[str, dict[str, float]]] = {  # of the sweep: labels; what differs
    "preset": ("as it stands", {}),
    "rate": ("learning rates falling to a twentieth", {"learning_rate_floor": 0.05}),
    "discount": ("discount 0.998", {"discount": 0.998}),
    "regularizers": ("half the regularizers", {"c_past": 0.1, "c_uniform": 0.1}),
}
BEFORE = {  # labels; folders
    "one of four, critics without waves": "results_smooth",
    "one of four, rates falling to a fifth by 1.2M": "results_rates",
    "12-d, rates falling to a fifth by 1.2M": "results_continuous",
}
MANY = 128  # episodes of the sweep's evaluations
LEFT, EPISODES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0), 64  # m, and from each
PAPER = 0.73  # success after 1M environment steps, Huang et al., ICML 2023
CURVES = ("success", "stochastic_success", "return_mean", "stochastic_return_mean")


def results(seed: int | str) -> Path:
    """Where a run's numbers are."""
    return FOLDER / "results_physics" / f"ant_push-seed{seed}.json"


def train(seed: int) -> None:
    """Trains a seed, or goes on with it, and writes its results."""
    folder = RUNS / f"ant_push-physics-seed{seed}"
    run = one_seed(folder, "rpg_physics", "ant_push", SETTINGS | {"seed": seed})
    rows = [row for row in run.rows[0] if "eval/success" in row]
    curves = {key: [row[f"eval/{key}"] for row in rows] for key in CURVES}
    curves["env_steps"] = [row["env_steps"] for row in rows]
    content = curves | {"success_from_left": success_from_left(run)} | provenance(run) | cost(run)
    write(results(seed), content)


def member_results(name: str, seed: int | str) -> Path:
    """Where the numbers of one of the sweep's runs are."""
    return FOLDER / "results_sweep" / f"ant_push-{name}-seed{seed}.json"


def train_together(seeds: list[int], updates: int | None) -> None:
    """Trains the sweep as one program, and writes every run's results at each evaluation."""
    changes = SETTINGS | ({"updates": updates} if updates else {})
    settings = resolve("rpg_physics", "ant_push", None, changes)
    env = make(settings.env, settings.backend)
    names = [(name, seed) for name in MEMBERS for seed in seeds]
    own = [(seed, MEMBERS[name][1]) for name, seed in names]
    agent = rpg_physics(env, settings.agent)
    evaluate = jax.jit(evaluator(agent, env, MANY, settings.agent.episode_length))
    keys = jax.vmap(evaluation_key, in_axes=(0, None))
    curves: list[dict[str, list[float]]] = [
        {key: [] for key in ("env_steps", *CURVES)} for _ in own
    ]
    for stage, contents in together(env, settings, rpg_physics, own, settings.eval_every):
        found = evaluate(stage.state, keys(jnp.asarray([seed for _, seed in names]), stage.update))
        for index, (name, seed) in enumerate(names):
            curves[index]["env_steps"].append(stage.update * agent.steps_per_update)
            for key in CURVES:
                curves[index][key].append(float(found[f"eval/{key}"][index]))
            write(member_results(name, seed), curves[index] | contents[index])
        success = np.reshape(found["eval/success"], (len(MEMBERS), len(seeds))).round(2).tolist()
        print(f"update {stage.update}, {stage.seconds:.0f} s: success {success}", flush=True)


class FromTheLeft(Wrapper):
    """A maze whose ant starts `left` metres to the left of where it should, after a step without action."""

    def __init__(self, env: Env, left: Array | float) -> None:
        super().__init__(env)
        self.left = left

    def reset(self, rng: Key) -> State:
        """The task's, moved."""
        state = self.env.reset(rng)
        q = state.pipeline_state.q.at[0].add(-self.left)
        moved = self.unwrapped.pipeline_init(q, state.pipeline_state.qd)
        return self.env.step(state.replace(pipeline_state=moved), jnp.zeros(self.action_size))


def success_from_left(run: Run) -> dict[str, float]:
    """How many sampled episodes succeed that start so many metres to the left of where they should."""
    states = jax.tree.map(lambda leaf: leaf[None], run.state)
    keys = evaluation_key(run.settings.seed, run.update)[None]

    @jax.jit
    def success(left: Array) -> Array:
        world = FromTheLeft(run.env, left)
        evaluate = evaluator(run.agent, world, EPISODES, run.episode_length)
        return evaluate(states, keys)["eval/stochastic_success"][0]

    return {f"{left:g}": float(success(left)) for left in LEFT}


def table() -> str:
    """Markdown: the end of training."""
    seeds = read_seeds(results("*"))
    if not seeds:
        return ""
    lines = [
        "| z | seeds | environment steps | success, deterministic | sampled | return, deterministic "
        "| sampled | minutes |",
        "|---" * 8 + "|",
    ]
    shown = {"one of four": seeds} | {
        label: read_seeds(FOLDER / folder / "ant_push-seed*.json")
        for label, folder in BEFORE.items()
    }
    for label, mine in shown.items():
        minutes = np.mean([seed["wall_seconds"] for seed in mine]) / 60.0
        lines.append(f"| {label} | {ends(mine)} | {minutes:.0f} |")
    far = [[seed["success_from_left"][f"{left:g}"] for seed in seeds] for left in LEFT]
    rows = [
        f"| metres to the left | {' | '.join(f'{left:g}' for left in LEFT)} |",
        "|---" * (1 + len(LEFT)) + "|",
        f"| success, sampled | {' | '.join(f'{np.mean(one):.2f}' for one in far)} |",
    ]
    return "\n".join([*lines, "", *rows])


def ends(seeds: list[dict[str, Any]]) -> str:
    """Cells: how many seeds, their environment steps, success and returns at the last evaluation."""
    steps = min(seed["env_steps"][-1] for seed in seeds)
    cells = [spread([seed[key][-1] for seed in seeds], digits=2) for key in CURVES[:2]]
    cells += [spread([seed[key][-1] for seed in seeds]) for key in CURVES[2:]]
    return " | ".join([str(len(seeds)), f"{steps:,}", *cells])


def sweep_table() -> str:
    """Markdown: where the sweep's runs stood at their last evaluation."""
    lines = [
        "| setting | seeds | environment steps | success, deterministic | sampled "
        "| return, deterministic | sampled |",
        "|---" * 7 + "|",
    ]
    for name, (label, _) in MEMBERS.items():
        if seeds := read_seeds(member_results(name, "*")):
            lines.append(f"| {label} | {ends(seeds)} |")
    return "\n".join(lines)


def draw() -> None:
    """Success of evaluations over steps, a line for each seed."""
    seeds = read_seeds(results("*"))
    if not seeds:
        return
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for number, seed in enumerate(seeds):
        steps = np.array(seed["env_steps"]) / 1e6
        for index, (key, label) in enumerate(
            zip(CURVES[:2], ("deterministic", "sampled"), strict=True)
        ):
            shown = label if number == 0 else None
            axis.plot(steps, seed[key], color=f"C{index}", label=shown)
    axis.axhline(PAPER, color="gray", linestyle="--", label="the paper's, after 1M")
    axis.set(xlabel="environment steps (millions)", ylabel="success", ylim=(-0.02, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.savefig(FOLDER / "ant_push.png", dpi=110)


def main() -> None:
    """Trains what has no results yet, then reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", help="0 to 6; together, 0 to 7")
    parser.add_argument("--together", action="store_true", help="some settings, as one program")
    parser.add_argument("--updates", type=int, help="of them; the preset's by default")
    parser.add_argument("--report", action="store_true", help="only the figure and the table")
    arguments = parser.parse_args()
    if arguments.together:
        train_together(arguments.seeds or list(range(8)), arguments.updates)
    elif not arguments.report:
        for seed in arguments.seeds or range(7):
            if not results(seed).exists():
                train(seed)
    draw()
    fill_readme(FOLDER, table(), "physics")
    fill_readme(FOLDER, sweep_table(), "sweep")


if __name__ == "__main__":
    main()
