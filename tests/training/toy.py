"""A task and an agent small enough to know everything about: for tests of the training loop."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from brax.envs import Env, State

from rpgjax.agents.agent import Agent, Policy
from rpgjax.types import Array, Key, Metrics

TARGET = 0.5


class Line(Env):
    """Reward -(action - TARGET)^2; observations count steps; ends after a drawn number of steps.

    After the end it goes on paying 1000 a step, as tasks do that somebody else resets.
    """

    def __init__(self, longest: int = 6) -> None:
        self.longest = longest

    def reset(self, rng: Key) -> State:
        last = jax.random.randint(rng, (), 1, self.longest + 1).astype(jnp.float32)
        zero = jnp.zeros(())
        return State(None, jnp.stack([zero, last]), zero, zero, {}, {})

    def step(self, state: State, action: Array) -> State:
        observation = state.obs + jnp.asarray([1.0, 0.0])
        ended = state.done > 0
        reward = jnp.where(ended, 1000.0, -jnp.sum((action - TARGET) ** 2))
        done = jnp.where(ended | (observation[0] >= observation[1]), 1.0, 0.0)
        return state.replace(obs=observation, reward=reward, done=done)

    @property
    def observation_size(self) -> int:
        return 2

    @property
    def action_size(self) -> int:
        return 1

    @property
    def backend(self) -> str:
        return "none"


class ToyState(NamedTuple):
    """Parameters twice, as agents with targets have them; a typed key, counters, an empty array."""

    params: dict[str, Array]
    target: dict[str, Array]
    optimizer: Any
    key: Key
    keys: Key
    update: Array
    flag: Array
    empty: Array


def toy_agent(size: int = 4, noise: float = 0.1, breaks_at: int | None = None) -> Agent:
    """Descends a noisy quadratic. From update `breaks_at` on, all of it is non-finite."""
    optimizer = optax.adam(0.05)

    def init(key: Key) -> ToyState:
        first, key = jax.random.split(key)
        params = {"mean": jax.random.normal(first, (size,)), "bias": jnp.zeros(())}
        return ToyState(
            params=params,
            target=params,
            optimizer=optimizer.init(params),
            key=key,
            keys=jax.random.split(key, 3),
            update=jnp.zeros((), jnp.int32),
            flag=jnp.zeros((), bool),
            empty=jnp.zeros((0, 2)),
        )

    def update(state: ToyState) -> tuple[ToyState, Metrics]:
        key, draw = jax.random.split(state.key)

        def loss(params: dict[str, Array]) -> Array:
            target = TARGET + noise * jax.random.normal(draw, (size,))
            return jnp.mean((params["mean"] + params["bias"] - target) ** 2)

        value, gradient = jax.value_and_grad(loss)(state.params)
        updates, moments = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        broken = jnp.zeros(()) if breaks_at is None else (state.update >= breaks_at) * 1.0
        metrics = {
            "train/loss": value,
            "train/grad_norm": optax.global_norm(gradient),
            "train/nonfinite_fraction": broken,
        }
        state = state._replace(
            params=params,
            target=state.params,
            optimizer=moments,
            key=key,
            update=state.update + 1,
            flag=~state.flag,
        )
        return state, metrics

    def policy(state: ToyState) -> Policy:
        action = state.params["mean"][:1] + state.params["bias"]
        return Policy(
            reset=lambda observation, key: jnp.zeros((), jnp.int32),
            sample=lambda carry, observation, key: (
                carry + 1,
                action + noise * jax.random.normal(key, (1,)),
            ),
            mode=lambda carry, observation: (carry + 1, action),
        )

    return Agent(init, update, policy, steps_per_update=16)
