"""The two-mode bandit: does a policy find the narrow, better mode? 32 seeds in one program.

python experiments/bandit/run.py             everything
python experiments/bandit/run.py --report    only the figure and the table

The wide mode (0.5 at 0.875) is where every gradient from the middle leads, and ends in a cliff; the
narrow one (1.1 at -0.6) has no gradient outside itself.
"""

import argparse
import functools
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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

from harness import fill_readme

import rpgjax
from rpgjax.agents import AGENTS
from rpgjax.envs.analytic import bandit, bandit_reward
from rpgjax.training.programs import over_seeds
from rpgjax.training.runs import origin
from rpgjax.training.settings import settings_to_json

FOLDER = Path(__file__).parent
SEEDS, UPDATES, BLOCKS, SAMPLES = 32, 400, 20, 512
WORKERS = 2  # variants at once: one of them fills a core
EPISODES, LEARNING_RATE, LOG_STD = 64, 0.02, -1.0  # of the Gaussian that climbs by its score
VARIANTS: dict[str, tuple[str, str, float]] = {  # label, algorithm, beta
    "rpg": ("RPG", "rpg_physics", 1.0),
    "no_information": ("RPG without information", "rpg_physics", 0.0),
    "gaussian": ("Gaussian, pathwise (SHAC)", "shac", 0.0),
    "gaussian_score": ("Gaussian, score function", "score function", 0.0),
}


COMPILING = threading.Lock()


def program(algorithm: str, keys: Any) -> Any:
    """All seeds of an algorithm, as a function of keys and of the information's weight, compiled."""
    with COMPILING:  # two variants may want the same one
        return compiled(algorithm, len(keys))


@functools.cache
def compiled(algorithm: str, seeds: int) -> Any:
    """The program; `program` sees to it that each is compiled once."""
    jitted = every_seed(algorithm) if algorithm in AGENTS else score_function()
    keys = jax.eval_shape(lambda: jax.vmap(jax.random.key)(jnp.arange(seeds)))
    return jitted.lower(keys, jax.ShapeDtypeStruct((), jnp.float32)).compile()


def every_seed(algorithm: str) -> Any:
    """All seeds of an agent, as a function of keys and of the information's weight, jitted."""
    settings = rpgjax.preset(algorithm, "bandit").agent
    observation = jnp.zeros(1)

    def run(information, key):
        config = (
            replace(settings, information=information)
            if hasattr(settings, "information")
            else settings
        )
        agent = AGENTS[algorithm][1](bandit(), config)

        def act(state, sampled, key):
            policy = agent.policy(state)
            reset_key, action_key = jax.random.split(key)
            carry = policy.reset(observation, reset_key)
            drawn = policy.sample(carry, observation, action_key)[1][0]
            return drawn if sampled else policy.mode(carry, observation)[1][0]

        def block(state, key):
            state, _ = jax.lax.scan(lambda s, _: agent.update(s), state, None, UPDATES // BLOCKS)
            keys = jax.random.split(key, SAMPLES)
            actions = [
                jax.vmap(functools.partial(act, state, sampled))(keys) for sampled in (True, False)
            ]
            return state, actions

        init_key, key = jax.random.split(key)
        state = agent.init(init_key)
        return jax.lax.scan(block, state, jax.random.split(key, BLOCKS))[1]

    return jax.jit(lambda keys, information: over_seeds(functools.partial(run, information))(keys))


def score_function() -> Any:
    """All seeds of a Gaussian that climbs by its score: no gradient goes through the reward."""
    optimizer = optax.adam(LEARNING_RATE)

    def action(params, noise):
        return jnp.tanh(params[0] + jnp.exp(params[1]) * noise)

    def run(key):
        def update(carry, key):
            params, state = carry
            noise = jax.random.normal(key, (EPISODES,))
            fixed = jax.lax.stop_gradient(params[0] + jnp.exp(params[1]) * noise)
            reward = bandit_reward(jnp.tanh(fixed))

            def loss(params):
                log_prob = jax.scipy.stats.norm.logpdf(fixed, params[0], jnp.exp(params[1]))
                return -jnp.mean(log_prob * (reward - reward.mean()))

            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        def block(carry, key):
            keys = jax.random.split(key, UPDATES // BLOCKS + 1)
            carry, _ = jax.lax.scan(update, carry, keys[1:])
            noise = jax.random.normal(keys[0], (SAMPLES,))
            return carry, [action(carry[0], noise), action(carry[0], 0.0 * noise)]

        params = jnp.array([0.0, LOG_STD])
        first = params, optimizer.init(params)
        _, actions = jax.lax.scan(block, first, jax.random.split(key, BLOCKS))
        return actions

    return jax.jit(lambda keys, information: jax.vmap(run)(keys))


def train(algorithm: str, information: float) -> dict[str, Any]:
    """Curves (seed, block) and final actions (seed, sample) of a variant."""
    began = time.perf_counter()
    keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
    run = program(algorithm, keys)
    sampled, mode = jax.block_until_ready(run(keys, jnp.float32(information)))
    returns = [np.asarray(bandit_reward(x).mean(-1)) for x in (sampled, mode)]
    settings = None
    if algorithm in AGENTS:
        settings = settings_to_json(rpgjax.preset(algorithm, "bandit")) | {"updates": UPDATES}
        if "information" in settings["agent"]:
            settings["agent"]["information"] = information
    return {
        "settings": settings,
        "seconds": round(time.perf_counter() - began, 1),
        "updates": ((np.arange(BLOCKS) + 1) * UPDATES // BLOCKS).tolist(),
        "sampled_return": returns[0].tolist(),  # (seed, block)
        "mode_return": returns[1].tolist(),
        "actions": np.asarray(sampled[:, -1, :64]).round(4).tolist(),  # (seed, 64), at the end
        **origin(),
    }


def results() -> dict[str, Any]:
    return json.loads((FOLDER / "results.json").read_text())


def table() -> str:
    """A Markdown row for each variant: mean over seeds, lowest, highest."""
    lines = [
        "| policy | return, sampled | lowest, highest seed | z drawn, best action | seeds at 1.05 |",
        "|---" * 5 + "|",
    ]
    for name, content in results().items():
        sampled, mode = (np.array(content[f"{kind}_return"])[:, -1] for kind in ("sampled", "mode"))
        lines.append(
            f"| {VARIANTS[name][0]} | {sampled.mean():.3f} | {sampled.min():.3f}, {sampled.max():.3f}"
            f" | {mode.mean():.3f} [{mode.min():.3f}, {mode.max():.3f}]"
            f" | {np.sum(sampled >= 1.05)} of {len(sampled)} |"
        )
    return "\n".join(lines)


def draw() -> None:
    """Returns over updates, and where the actions are at the end."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    found = results()
    for index, (name, content) in enumerate(found.items()):
        curve = np.array(content["sampled_return"])
        at = np.array(content["updates"])
        axes[0].plot(at, curve.T, color=f"C{index}", alpha=0.25, lw=0.8)
        axes[0].plot(at, curve.mean(0), color=f"C{index}", label=VARIANTS[name][0])
        actions = np.array(content["actions"]).ravel()
        axes[1].hist(actions, 100, range=(-1, 1), density=True, color=f"C{index}", alpha=0.5)
    x = np.linspace(-1, 1, 1001)
    above = axes[1].twinx()
    above.plot(x, np.asarray(bandit_reward(jnp.asarray(x))), color="black", lw=1)
    above.set_ylabel("reward")
    axes[0].set(xlabel="updates", ylabel="return, sampled actions")
    axes[1].set(xlabel="action at the end, all seeds", ylabel="density")
    axes[0].legend(frameon=False)
    axes[0].grid(alpha=0.3)
    figure.suptitle(f"The two-mode bandit, {SEEDS} seeds")
    figure.savefig(FOLDER / "bandit.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="draw only")
    if not parser.parse_args().report:
        found = {}
        with ThreadPoolExecutor(WORKERS) as pool:
            trained = pool.map(lambda variant: train(*variant[1:]), VARIANTS.values())
            for name, content in zip(VARIANTS, trained, strict=True):
                found[name] = content
                last = np.array(content["sampled_return"])[:, -1]
                print(f"{name}: {last.mean():.3f} in {content['seconds']} s", flush=True)
        (FOLDER / "results.json").write_text(json.dumps(found) + "\n")
    draw()
    fill_readme(FOLDER, table())


if __name__ == "__main__":
    main()
