"""Times blocks of RFO's updates, and of the physics inside them, on request.

`rpgjax bench` starts it and talks to it over pipes, as it does with `peer_apg.py`: each line on
standard input is a request, each answer one JSON object on a line of the file descriptor that
`BENCH_ANSWERS` names, and the end of standard input ends it.
"""

import importlib.metadata
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from json import dumps
from typing import Any

import brax.envs
import jax
import jax.numpy as jnp
import tyro
from brax.envs import Env

from rpgjax.agents import AGENTS
from rpgjax.envs.registry import make
from rpgjax.presets import preset
from rpgjax.training.bench import Workload

Block = Callable[[], Any]  # does the work, returns arrays that are done when it is


def serve(workload: Workload, request: Callable[[], str], answer: Callable[[dict], None]) -> None:
    """Says its versions on "hello", times a block on "update", "physics" or "stock"."""
    env = make(workload.env, workload.backend)
    makers: dict[str, Callable[[], Block]] = {
        "update": lambda: update_block(workload, env),
        "physics": lambda: physics_block(workload, env),
        "stock": lambda: physics_block(
            workload, brax.envs.get_environment(workload.env, backend=workload.backend)
        ),
    }
    blocks: dict[str, Block] = {}
    while line := request().strip():
        if line == "hello":
            names = ("jax", "jaxlib", "brax", "flax", "optax")
            answer({"versions": {name: importlib.metadata.version(name) for name in names}})
            continue
        if line not in blocks:
            blocks[line] = makers[line]()
        answer(timed(blocks[line]))


def timed(block: Block, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Seconds until everything that the block returns has been computed, and if it is finite."""
    start = clock()
    done = jax.block_until_ready(block())
    seconds = clock() - start
    return {"seconds": seconds, "finite": all(bool(jnp.isfinite(x).all()) for x in done)}


def update_block(workload: Workload, env: Env) -> Block:
    """RFO's updates as in training, with the preset's settings: jitted, scanned, state donated."""
    config = preset("rfo", workload.env, workload.backend).agent
    config = replace(config, num_envs=workload.num_envs, horizon=workload.horizon)
    agent = AGENTS["rfo"][1](env, config)
    state = jax.jit(agent.init)(jax.random.key(0))

    @partial(jax.jit, donate_argnums=0)
    def updates(state: Any) -> Any:
        length = workload.updates_per_block
        return jax.lax.scan(lambda s, _: agent.update(s), state, None, length=length)

    def block() -> list[jax.Array]:
        nonlocal state
        state, metrics = updates(state)
        return list(metrics.values())

    return block


def physics_block(workload: Workload, env: Env) -> Block:
    """Rewards' sum and its gradient in the actions (horizon, env, action): no policy, no resets.

    Nothing flows back through observations here: this is the least that an update's physics costs.
    """
    keys = jax.random.split(jax.random.key(1), workload.num_envs)
    states = jax.jit(jax.vmap(env.reset))(keys)
    size = (workload.updates_per_block, workload.horizon, workload.num_envs, env.action_size)
    actions = jax.random.uniform(jax.random.key(2), size, minval=-1.0, maxval=1.0)

    def total_reward(actions: jax.Array, states: Any) -> jax.Array:
        def step(states: Any, action: jax.Array) -> Any:
            states = jax.vmap(env.step)(states, action)
            return states, states.reward

        return jnp.sum(jax.lax.scan(step, states, actions)[1])

    gradient = jax.value_and_grad(total_reward)
    # Other actions in every repetition, or the compiler may do the work once for all of them.
    block = jax.jit(lambda actions, states: jax.lax.map(lambda a: gradient(a, states), actions))
    return lambda: block(actions, states)


if __name__ == "__main__":
    with open(int(os.environ["BENCH_ANSWERS"]), "w", buffering=1) as answers:
        serve(
            tyro.cli(Workload),
            sys.stdin.readline,
            lambda answer: print(dumps(answer), file=answers),
        )
