"""A hill between start and goal: two equally good ways around it."""

import jax
import jax.numpy as jnp

from rpgjax.envs.analytic.task import AnalyticTask, Outcome
from rpgjax.types import Array, Key


class TwoRoutes(AnalyticTask):
    """A point on a plane walks to a goal behind a hill: the straight way is bad, left and right are good.

    State and observation: position p = (x, y) in m, starting at x in [-1.05, -0.95], y = 0. Action: (2,),
    clipped to [-1, 1], times `reach` in m.
    Dynamics: p' = p + reach a.
    Reward: 1 - |p' - (1, 0)| / 2 - height exp(-|p'|^2 / width^2), the distance smoothed by 0.1 m.
    Never terminates; episodes of 40 steps. Task and reward are the same mirrored at y = 0, so there are
    two best routes, one above and one below the hill, and what is best on average of both is the worst.

    Args:
        reach: largest move along an axis in a step, m.
        height: of the hill, in reward.
        width: of the hill, m.
    """

    observation_size = 2
    action_size = 2
    episode_length = 40

    def __init__(self, reach: float = 0.1, height: float = 3.0, width: float = 0.4) -> None:
        self.reach = reach
        self.height = height
        self.width = width

    def initial(self, key: Key) -> Array:
        """Before the hill, in the middle."""
        x = jax.random.uniform(key, minval=-1.05, maxval=-0.95)
        return jnp.stack([x, jnp.zeros_like(x)])

    def transition(self, state: Array, action: Array) -> Outcome:
        """One move."""
        state = state + self.reach * jnp.clip(action, -1.0, 1.0)
        return Outcome(state, self.reward(state), jnp.zeros((), bool))

    def reward(self, position: Array) -> Array:
        """Of a position (2,)."""
        offset = position - jnp.array([1.0, 0.0], position.dtype)
        distance = jnp.sqrt(jnp.sum(offset**2) + 0.1**2)
        hill = self.height * jnp.exp(-jnp.sum(position**2) / self.width**2)
        return 1.0 - 0.5 * distance - hill


def two_routes() -> TwoRoutes:
    """The task with its default constants."""
    return TwoRoutes()
