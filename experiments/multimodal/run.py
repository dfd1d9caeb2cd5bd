"""Two good routes: which policies know both? Latent-conditioned flows beside flows and Gaussians alone.

python experiments/multimodal/run.py [VARIANT ...]   trains what has no results yet, or these again
python experiments/multimodal/run.py --report        only the figures and the table

A point walks around a hill, above or below it, equally well. After training each policy plays 256
episodes, sampled and deterministic (its latent, where it has one, is drawn in both); an episode's route
is the side on which it passes the hill. The best single route is found by gradient ascent on the actions
of one episode: no policy can do better.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import fill_readme, provenance, require_whole, spread, write

import rpgjax
from rpgjax.envs.analytic import two_routes
from rpgjax.training.latent_figures import Played, colours, play

FOLDER = Path(__file__).parent
SEEDS, EPISODES, STEPS, DRAWN = 5, 256, 40, 32
FLOW = {"head": "flow"}
SOFT_Q = {  # a z that is worth less is not drawn; at the end, the other terms hardly count
    "latent_choice": "soft_q",
    "latent_entropy_floor": 0.005,
    "information": 0.3,
    "information_floor": 0.02,
}
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "soft_q": ("latent + flow, z one of 8 by soft Q", "rpg_physics", FLOW | SOFT_Q),
    "latent_flow": ("latent + flow, z one of 8", "rpg_physics", FLOW),
    "latent_gaussian": ("latent + Gaussian, z one of 8", "rpg_physics", {"head": "gaussian"}),
    "four": ("latent + flow, z one of 4", "rpg_physics", FLOW | {"latent_size": 4}),
    "no_information": ("latent + flow, no information", "rpg_physics", FLOW | {"information": 0.0}),
    "flow": ("flow alone (RFO)", "rfo", {}),
    "gaussian": ("Gaussian alone (SHAC)", "shac", {}),
}
FIGURE = ("soft_q", "latent_flow", "latent_gaussian", "flow", "gaussian")


def best_route() -> float:
    """The return of the best single route, from the middle of the starting line."""
    task, start = two_routes(), jnp.array([-1.0, 0.0])

    def loss(actions):
        def step(x, action):
            outcome = task.transition(x, action)
            return outcome.state, outcome.reward

        return -jnp.sum(jax.lax.scan(step, start, actions)[1])

    actions = jnp.zeros((STEPS, 2)).at[:20, 0].set(0.9).at[:10, 1].set(0.6).at[10:20, 1].set(-0.6)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, 4000))

    def climb(carry, _):
        actions, state = carry
        value, pull = jax.value_and_grad(loss)(actions)
        updates, state = optimizer.update(pull, state)
        return (jnp.clip(optax.apply_updates(actions, updates), -1.0, 1.0), state), -value

    first = (actions, optimizer.init(actions))
    return float(jax.jit(lambda c: jax.lax.scan(climb, c, None, 4000)[1])(first).max())


def routes(positions: np.ndarray) -> dict[str, np.ndarray]:
    """Which episodes pass above and below the hill, by y where x first is past it: (episode,) bool."""
    past = positions[:, :, 0] > 0.0
    y = positions[np.arange(len(positions)), np.argmax(past, axis=1), 1]
    return {"above": past.any(axis=1) & (y > 0.0), "below": past.any(axis=1) & (y <= 0.0)}


def summary(played: Played) -> dict[str, Any]:
    """Numbers of one seed's episodes."""
    content: dict[str, Any] = {"return": float(played.returns.mean())}
    for side, went in routes(played.position).items():
        content[f"share_{side}"] = float(went.mean())
        content[f"return_{side}"] = float(played.returns[went].mean()) if went.any() else None
    return content


def train(name: str) -> None:
    """Trains a variant's seeds and writes its results."""
    _, algorithm, changes = VARIANTS[name]
    print(f"== {name}", flush=True)
    run = rpgjax.train(
        algorithm,
        env="two_routes",
        seeds=SEEDS,
        eval_every=100,
        replay=False,
        **changes,
    )
    require_whole(run)
    seeds = []
    for seed in range(SEEDS):
        state = jax.tree.map(lambda x, seed=seed: x[seed], run.state)
        sampled, deterministic = (play(run, state, EPISODES, one) for one in (True, False))
        seeds.append(
            {
                "sampled": summary(sampled),
                "deterministic": summary(deterministic),
                "positions": sampled.position[:DRAWN].round(2).tolist(),
                "z": sampled.z[:DRAWN].round(2).tolist(),
            }
        )
    content = provenance(run) | {
        "env_steps": run.rows[0][-1]["env_steps"],
        "wall_seconds_for_all_seeds": run.rows[0][-1]["wall_seconds"],
        "best_single_route": best_route(),
        "seeds": seeds,
    }
    write(results(name), content)


def results(name: str) -> Path:
    """Where a variant's numbers are."""
    return FOLDER / "results" / f"{name}.json"


def read(name: str) -> dict[str, Any]:
    """A variant's numbers."""
    return json.loads(results(name).read_text())


def both(seed: dict[str, Any], kind: str) -> bool:
    """Whether a policy takes either route in a tenth of its episodes at least."""
    return min(seed[kind]["share_above"], seed[kind]["share_below"]) >= 0.1


def table() -> str:
    """Markdown: a row for each variant."""
    found = [name for name in VARIANTS if results(name).exists()]
    lines = [
        "| policy | deterministic: seeds with both routes | return, mean [lowest, highest] |"
        " sampled: seeds with both routes | return | worse route's return |",
        "|---" * 6 + "|",
    ]
    for name in found:
        seeds = read(name)["seeds"]
        cells = []
        for kind in ("deterministic", "sampled"):
            returns = np.array([seed[kind]["return"] for seed in seeds])
            cells.append(f"{sum(both(seed, kind) for seed in seeds)} of {len(seeds)}")
            cells.append(spread(returns, 2))
        of_routes = [
            [s["sampled"][f"return_{side}"] for side in ("above", "below")]
            for s in seeds
            if both(s, "sampled")
        ]
        cells.append(f"{min(map(min, of_routes)):.2f}" if of_routes else "-")
        lines.append(f"| {VARIANTS[name][0]} | {' | '.join(cells)} |")
    best = read(found[0])["best_single_route"]
    return "\n".join([*lines, "", f"Best single route: {best:.2f}."])


def draw() -> None:
    """Sampled episodes of every seed, coloured by latent, over the reward."""
    names = [name for name in FIGURE if results(name).exists()]
    x, y = np.meshgrid(np.linspace(-1.3, 1.3, 131), np.linspace(-1.0, 1.0, 101))
    reward = jax.vmap(two_routes().reward)(jnp.stack([x.ravel(), y.ravel()], axis=1))
    figure, axes = plt.subplots(
        len(names),
        SEEDS,
        figsize=(2.4 * SEEDS, 2.0 * len(names)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, name in zip(axes, names, strict=True):
        for number, (axis, seed) in enumerate(zip(row, read(name)["seeds"], strict=True)):
            axis.contourf(x, y, np.asarray(reward).reshape(x.shape), 24, cmap="Greys_r", alpha=0.6)
            for path, z in zip(seed["positions"], seed["z"], strict=True):
                axis.plot(*np.array(path).T, color=colours(np.array([z]))[0], lw=0.6, alpha=0.7)
            axis.plot([1.0], [0.0], "k*", ms=6)
            if number == 0:
                axis.set_ylabel(VARIANTS[name][0], fontsize="small")
            if row is axes[0]:
                axis.set_title(f"seed {number}", fontsize="small")
    figure.suptitle("Sampled episodes; colour: the episode's latent z; dark: the hill")
    figure.savefig(FOLDER / "routes.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--report", action="store_true", help="draw only")
    arguments = parser.parse_args()
    if unknown := set(arguments.variants) - set(VARIANTS):
        parser.error(f"unknown variants: {', '.join(sorted(unknown))}")
    if not arguments.report:
        missing = [name for name in VARIANTS if not results(name).exists()]
        for name in arguments.variants or missing:
            train(name)
    draw()
    fill_readme(FOLDER, table())


if __name__ == "__main__":
    main()
