"""What a task tells beside its reward, for training alone: how surely it goes on, and how fast it goes.

Hopper, Walker2d, Humanoid and Ant end where a height or an angle leaves a range. That is a step function,
and no gradient sees it coming. Under noise of a given width the chance to stay inside is smooth; its slope
says which way is out. It is told in `info["survival"]`, the velocity forward in `info["pace"]`, and nothing
else about the task changes.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from brax.base import State as PipelineState
from brax.envs.base import Env, State, Wrapper

from rpgjax.types import Array

Bound = tuple[Array, tuple[float, float], float]  # a coordinate, its range, the noise's width

HEIGHT = 0.05  # m, width
ANGLE = 0.05  # rad
TALL_HEIGHT = 0.2  # m: a humanoid takes a second to fall, and is to feel it from the start


def _height(env: Env, state: PipelineState, width: float = HEIGHT) -> Bound:
    return state.x.pos[0, 2], env._healthy_z_range, width


def _lean(env: Env, state: PipelineState) -> Bound:
    return state.q[2], env._healthy_angle_range, ANGLE


BOUNDS: dict[str, tuple[Callable[[Env, PipelineState], Bound], ...]] = {
    "hopper": (_height, _lean),
    "walker2d": (_height, _lean),
    "humanoid": (partial(_height, width=TALL_HEIGHT),),
    "ant": (_height,),
}
PACED = ("ant", "halfcheetah", "hopper", "humanoid", "swimmer", "walker2d")


def staying(value: Array, within: tuple[float, float], width: float) -> Array:
    """The chance that `value` is inside a range (low, high) under logistic noise of a width."""
    low, high = within
    return jax.nn.sigmoid((value - low) / width) * jax.nn.sigmoid((high - value) / width)


class Hints(Wrapper):
    """A task that tells its chance of survival and its pace, m/s."""

    def __init__(
        self, env: Env, bounds: tuple[Callable[[Env, PipelineState], Bound], ...], paced: bool
    ):
        super().__init__(env)
        self._bounds, self._paced = bounds, paced

    def reset(self, rng: Array) -> State:
        """The task's, with the hints."""
        return self._told(self.env.reset(rng))

    def step(self, state: State, action: Array) -> State:
        """The task's, with the hints."""
        return self._told(self.env.step(state, action))

    def _told(self, state: State) -> State:
        hints = {}
        if self._bounds:
            chance = jnp.ones(())
            for bound in self._bounds:
                chance = chance * staying(*bound(self.env.unwrapped, state.pipeline_state))
            hints["survival"] = chance
        if self._paced:
            hints["pace"] = state.metrics["x_velocity"]
        return state.replace(info=state.info | hints)


def with_hints(env: Env, name: str) -> Env:
    """`env` with what the task called `name` can tell, if anything."""
    bounds, paced = BOUNDS.get(name, ()), name in PACED
    return Hints(env, bounds, paced) if bounds or paced else env
