"""Object-centric observations: what novelty and policies see of the objects of a task.

Reparameterized Policy Learning (Huang et al., ICML 2023) explores by the novelty of objects'
coordinates x, seen as {x, sin 2^i x, cos 2^i x}, i = 0..5, beside a raw observation that is shrunk.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rpgjax.envs.quiet import quiet_brax
from rpgjax.types import Array, Key

with quiet_brax():
    from brax.envs import Env, State, Wrapper

FREQUENCIES = 6


def positional_features(x: Array, frequencies: int = FREQUENCIES) -> Array:
    """[x, sin x, cos x, sin 2x, cos 2x, ...] of x (n,), doubling: (n (1 + 2 frequencies),)."""
    return jnp.concatenate([x, *waves(x, range(frequencies))])


def places(env: Env, wanted_by: str) -> Callable[[Array], Array]:
    """Where a task's objects are, (..., n), of its observations (..., obs).

    Raises:
        ValueError: it has none; `wanted_by` says which setting asks.
    """
    features, count = getattr(env, "object_features", 0), getattr(env, "object_coordinates", 0)
    if not features:
        raise ValueError(f"{wanted_by} wants a task with objects (ObjectCentric)")
    return lambda observation: observation[..., -features:][..., :count]


def waves(x: Array, octaves: range) -> list[Array]:
    """sin 2^i x, cos 2^i x for each octave i, in the shape of x."""
    return [wave(2.0**i * x) for i in octaves for wave in (jnp.sin, jnp.cos)]


class ObjectCentric(Wrapper):
    """A task whose observation is [shrink * raw observation, features of the objects' coordinates].

    Args:
        env: the task.
        objects: coordinates (n,), about within [-1, 1], of its state.
        shrink: factor on the raw observation.
        frequencies: of the features, doubling; each more tells places half as far apart.

    Raises:
        ValueError: `shrink` is not above 0.
    """

    def __init__(
        self,
        env: Env,
        objects: Callable[[State], Array],
        shrink: float = 0.01,
        frequencies: int = FREQUENCIES,
    ) -> None:
        if shrink <= 0:
            raise ValueError(f"shrink ({shrink:g}) must be above 0: agents divide by it")
        super().__init__(env)
        self.objects = objects
        self.shrink = shrink
        self.frequencies = frequencies

    def reset(self, rng: Key) -> State:
        """The task's, seen otherwise."""
        return self._seen(self.env.reset(rng))

    def step(self, state: State, action: Array) -> State:
        """The task's, seen otherwise."""
        return self._seen(self.env.step(state, action))

    @property
    def observation_size(self) -> int:
        """Raw and features."""
        return jax.eval_shape(self.reset, jax.random.key(0)).obs.shape[0]

    @property
    def object_features(self) -> int:
        """How many of the observation's last entries are features of the objects."""
        return self.observation_size - self.env.observation_size

    @property
    def object_coordinates(self) -> int:
        """How many of these, the first ones, are the coordinates themselves."""
        return self.object_features // (1 + 2 * self.frequencies)

    @property
    def least_std(self) -> Array:
        """(obs,): normalised, nothing is magnified beyond its own unit, and features are not at all.

        What has never moved has no spread. Divided by that, a block's first centimetre would be
        larger than all that policy and critics have seen, and places mean something else whenever
        somebody gets further.
        """
        entries = jnp.arange(self.observation_size)
        return jnp.where(entries < self.env.observation_size, self.shrink, 1.0)

    def _seen(self, state: State) -> State:
        features = positional_features(self.objects(state), self.frequencies)
        return state.replace(obs=jnp.concatenate([self.shrink * state.obs, features]))
