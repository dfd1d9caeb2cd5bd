"""A point on a line with a wall behind its target: the termination test."""

import jax
import jax.numpy as jnp

from rpgjax.envs.analytic.task import AnalyticTask, Outcome
from rpgjax.types import Array, Key


class DoubleIntegrator(AnalyticTask):
    """A unit mass pushed along a line to a target, close behind which a wall ends the episode.

    State and observation: (position in m, velocity in m/s), starting at rest between -1.5 and
    -0.5 m. Action: (1,), clipped to [-1, 1], times `force` in N.
    Dynamics (semi-implicit Euler): v' = v + dt force a, p' = p + dt v'.
    Reward: exp(-((p' - target) / width)^2) - 0.01 a^2, smooth and at most 1.
    Terminates where p' > `wall`. Rewards are positive near the target, so hitting the wall costs
    the future, which no gradient of the reward says and only a value of 0 there can teach.
    Optimum: 1 a step, approached by standing still on the target.

    Args:
        dt: step in s.
        force: largest force in N.
        target: in m.
        width: of the reward in m.
        wall: in m, behind the target.
    """

    observation_size = 2
    action_size = 1

    def __init__(
        self,
        dt: float = 0.1,
        force: float = 2.0,
        target: float = 1.0,
        width: float = 0.5,
        wall: float = 1.2,
    ) -> None:
        self.dt = dt
        self.force = force
        self.target = target
        self.width = width
        self.wall = wall

    def initial(self, key: Key) -> Array:
        """At rest, well before the target."""
        position = jax.random.uniform(key, minval=-1.5, maxval=-0.5)
        return jnp.stack([position, jnp.zeros_like(position)])

    def transition(self, state: Array, action: Array) -> Outcome:
        """One push."""
        push = jnp.clip(action[0], -1.0, 1.0)
        velocity = state[1] + self.dt * self.force * push
        position = state[0] + self.dt * velocity
        closeness = jnp.exp(-jnp.square((position - self.target) / self.width))
        reward = closeness - 0.01 * jnp.square(push)
        return Outcome(jnp.stack([position, velocity]), reward, position > self.wall)


def double_integrator() -> DoubleIntegrator:
    """The double integrator with its default constants."""
    return DoubleIntegrator()
