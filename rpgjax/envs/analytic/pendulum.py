"""Swing-up of a pendulum whose motor is too weak to lift it."""

import jax
import jax.numpy as jnp

from rpgjax.envs.analytic.task import AnalyticTask, Outcome
from rpgjax.types import Array, Key


class Pendulum(AnalyticTask):
    """A uniform rod on a torque-limited hinge, to be swung up and held there.

    State: (angle in rad, 0 upright and not wrapped, velocity in rad/s); starts at any angle with a
    velocity in [-1, 1]. Observation: (cos angle, sin angle, velocity). Action: (1,), clipped to
    [-1, 1], times `torque` in N m.
    Dynamics (semi-implicit Euler): acceleration = 3 g / (2 l) sin(angle) + 3 / (m l^2) torque a.
    Reward of the state and action before the step, smooth: -2 (1 - cos angle) - 0.1 velocity^2
    - 0.001 (torque a)^2. Near upright that is the familiar -angle^2 - 0.1 velocity^2 - 0.001 u^2.
    Never terminates.
    Optimum: 0 a step, upright and at rest; hanging still earns -4. The motor holds the rod only up
    to sin(angle) = 2 torque / (m g l) = 0.4, so it must swing back and forth first.

    Args:
        dt: step in s.
        gravity: g in m/s^2.
        mass: m in kg.
        length: l in m.
        torque: largest torque in N m.
    """

    observation_size = 3
    action_size = 1

    def __init__(
        self,
        dt: float = 0.05,
        gravity: float = 10.0,
        mass: float = 1.0,
        length: float = 1.0,
        torque: float = 2.0,
    ) -> None:
        self.dt = dt
        self.gravity = gravity
        self.mass = mass
        self.length = length
        self.torque = torque

    def initial(self, key: Key) -> Array:
        """Any angle, slow."""
        limit = jnp.array([jnp.pi, 1.0])
        return jax.random.uniform(key, (2,), minval=-limit, maxval=limit)

    def observe(self, state: Array) -> Array:
        """The angle as a point on the circle."""
        return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])

    def transition(self, state: Array, action: Array) -> Outcome:
        """One step of `dt`."""
        angle, velocity = state
        torque = self.torque * jnp.clip(action[0], -1.0, 1.0)
        pull = 1.5 * self.gravity / self.length * jnp.sin(angle)
        following = velocity + self.dt * (pull + 3.0 / (self.mass * self.length**2) * torque)
        reward = (
            -2.0 * (1.0 - jnp.cos(angle)) - 0.1 * jnp.square(velocity) - 0.001 * jnp.square(torque)
        )
        reached = jnp.stack([angle + self.dt * following, following])
        return Outcome(reached, reward, jnp.zeros((), bool))


def pendulum() -> Pendulum:
    """The pendulum with its default constants."""
    return Pendulum()
