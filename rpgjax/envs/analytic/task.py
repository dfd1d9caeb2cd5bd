"""What the analytic tasks share: a Brax `Env` out of three pure functions."""

import abc
from typing import NamedTuple

import jax.numpy as jnp

from rpgjax.envs.quiet import quiet_brax
from rpgjax.types import Array, Key

with quiet_brax():
    from brax.envs import Env, State


class Outcome(NamedTuple):
    """Where one transition led."""

    state: Array  # (state,)
    reward: Array  # ()
    done: Array  # () bool


class AnalyticTask(Env):
    """A task whose state is one vector. Subclasses say how it starts, moves and is seen."""

    @abc.abstractmethod
    def initial(self, key: Key) -> Array:
        """A random first state, (state,)."""

    @abc.abstractmethod
    def transition(self, state: Array, action: Array) -> Outcome:
        """One step from `state`, (state,), under `action`, (action,)."""

    def observe(self, state: Array) -> Array:
        """What is seen of `state`, (obs,): all of it, unless overridden."""
        return state

    def reset(self, rng: Key) -> State:
        """A Brax state at a random first state."""
        state = self.initial(rng)
        obs = self.observe(state)
        zero = jnp.zeros((), obs.dtype)
        return State(pipeline_state=state, obs=obs, reward=zero, done=zero)

    def step(self, state: State, action: Array) -> State:
        """One step, as Brax wants it: `done` as a float."""
        outcome = self.transition(state.pipeline_state, action)
        return state.replace(
            pipeline_state=outcome.state,
            obs=self.observe(outcome.state),
            reward=outcome.reward,
            done=outcome.done.astype(state.done.dtype),
        )

    @property
    def backend(self) -> str:
        """No physics engine."""
        return "analytic"
