"""How surely a body stays within the box that its task ends outside of: a chance with a slope.

Hopper, Walker2d, Humanoid and Ant end where a height or an angle leaves a range. That is a step function,
and no gradient sees it coming. Under noise of a given width the chance to stay inside is smooth; its slope
says which way is out. It is told in `info["survival"]` and changes nothing else about the task.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from brax.base import State as PipelineState
from brax.envs.base import Env, State, Wrapper

from rpgjax.types import Array

Bound = tuple[Array, tuple[float, float], float]  # a coordinate, its range, the noise's width

HEIGHT = 0.05  # m, width
ANGLE = 0.05  # rad


def _height(env: Env, state: PipelineState) -> Bound:
    return state.x.pos[0, 2], env._healthy_z_range, HEIGHT


def _lean(env: Env, state: PipelineState) -> Bound:
    return state.q[2], env._healthy_angle_range, ANGLE


BOUNDS: dict[str, tuple[Callable[[Env, PipelineState], Bound], ...]] = {
    "hopper": (_height, _lean),
    "walker2d": (_height, _lean),
    "humanoid": (_height,),
    "ant": (_height,),
}


def staying(value: Array, within: tuple[float, float], width: float) -> Array:
    """The chance that `value` is inside a range (low, high) under logistic noise of a width."""
    low, high = within
    return jax.nn.sigmoid((value - low) / width) * jax.nn.sigmoid((high - value) / width)


class SoftSurvival(Wrapper):
    """A task that tells its chance of survival."""

    def __init__(self, env: Env, bounds: tuple[Callable[[Env, PipelineState], Bound], ...]):
        super().__init__(env)
        self._bounds = bounds

    def reset(self, rng: Array) -> State:
        """The task's, with the chance."""
        return self._told(self.env.reset(rng))

    def step(self, state: State, action: Array) -> State:
        """The task's, with the chance."""
        return self._told(self.env.step(state, action))

    def _told(self, state: State) -> State:
        chance = jnp.ones(())
        for bound in self._bounds:
            chance = chance * staying(*bound(self.env.unwrapped, state.pipeline_state))
        return state.replace(info=state.info | {"survival": chance})


def soft_survival(env: Env, name: str) -> Env:
    """`env` with its chance of survival, where the task called `name` has one."""
    return SoftSurvival(env, BOUNDS[name]) if name in BOUNDS else env
