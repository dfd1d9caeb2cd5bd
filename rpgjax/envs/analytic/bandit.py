"""The two-mode bandit of reparameterized policy learning."""

import jax.numpy as jnp

from rpgjax.envs.analytic.task import AnalyticTask, Outcome
from rpgjax.types import Array, Key


def bandit_reward(x: Array) -> Array:
    """The reward of action `x` in [-1, 1], any shape, elementwise.

    R(x) = max(0, 1.1 - 18 (2x + 1.2)^2) + max(0, 0.5 - 0.125 (2x - 1.75)^2) 1[x < 0.875]
    """
    narrow = jnp.maximum(0.0, 1.1 - 18.0 * jnp.square(2.0 * x + 1.2))
    wide = jnp.maximum(0.0, 0.5 - 0.125 * jnp.square(2.0 * x - 1.75))
    return narrow + jnp.where(x < 0.875, wide, 0.0)


class Bandit(AnalyticTask):
    """One step, one action, two modes: the wide one is easy to find, the narrow one is better.

    Dynamics: the episode terminates after one step. State and observation: (1,), always 0.
    Reward: `bandit_reward` of the action in [-1, 1]; 0 on (-0.477, -0.125) between the modes and
    below -0.723, where there is no gradient.
    Optimum: 1.1 at -0.6, narrow. The wide mode climbs to 0.5 at 0.875, and falls off a cliff to 0
    just there; a unimodal policy is stuck on it.

    Source: Huang et al., "Reparameterized Policy Learning for Multimodal Trajectory Optimization",
    ICML 2023, the illustrative bandit.
    """

    observation_size = 1
    action_size = 1

    def initial(self, key: Key) -> Array:
        """The only state."""
        del key
        return jnp.zeros(1)

    def transition(self, state: Array, action: Array) -> Outcome:
        """The reward, and the end."""
        return Outcome(state, bandit_reward(action[0]), jnp.ones((), bool))


def bandit() -> Bandit:
    """The two-mode bandit."""
    return Bandit()
