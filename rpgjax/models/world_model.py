"""RPG's world model: an encoder, recurrent dynamics in its latent space, and what a step pays.

Reparameterized Policy Learning (Huang et al., ICML 2023), section on model-based learning: s = f(o),
h_0 = start(s), h' = GRU(embed(a), h), s' = out(h'), r = R(s', embed(a)). The survival probability of s'
is an option.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpgjax.models.networks import MLP, orthogonal
from rpgjax.types import Array, Key, Params


class ModelState(NamedTuple):
    """Stands for a task's state; `obs` is what heads, critics and encoders see of it."""

    obs: Array  # (size,), s
    hidden: Array  # (width,), h


class Imagined(NamedTuple):
    """What one imagined step leads to."""

    state: ModelState
    reward: Array  # ()


class WorldModel(NamedTuple):
    """Pure functions of one example; `jax.vmap` batches them."""

    size: int  # width of s
    init: Callable[[Key], Params]
    encode: Callable[[Params, Array], ModelState]  # observation (obs,)
    step: Callable[[Params, ModelState, Array], Imagined]  # action (action,)
    survival: Callable[[Params, Array], Array]  # s' (size,) -> () logit of the episode going on


def world_model(
    observation_size: int,
    action_size: int,
    size: int = 100,
    hidden: Sequence[int] = (256, 256),
    activation: str = "elu",
) -> WorldModel:
    """The model with its networks; the recurrent state is as wide as the last hidden layer."""
    width = hidden[-1]

    def network(outputs: int) -> MLP:
        return MLP(tuple(hidden), outputs, activation, layer_norm=False)

    encoder, start, embed, out = network(size), network(width), network(width), network(size)
    pays, lives = network(1), network(1)
    cell = nn.GRUCell(width, recurrent_kernel_init=orthogonal(1.0))

    def init(key: Key) -> Params:
        keys = iter(jax.random.split(key, 7))
        s, h = jnp.zeros(size), jnp.zeros(width)
        return {
            "encoder": encoder.init(next(keys), jnp.zeros(observation_size)),
            "start": start.init(next(keys), s),
            "embed": embed.init(next(keys), jnp.zeros(action_size)),
            "cell": cell.init(next(keys), h, h),
            "out": out.init(next(keys), h),
            "pays": pays.init(next(keys), jnp.concatenate([s, h])),
            "lives": lives.init(next(keys), s),
        }

    def encode(params: Params, observation: Array) -> ModelState:
        s = encoder.apply(params["encoder"], observation)
        return ModelState(s, start.apply(params["start"], s))

    def step(params: Params, state: ModelState, action: Array) -> Imagined:
        embedded = embed.apply(params["embed"], action)
        h, _ = cell.apply(params["cell"], state.hidden, embedded)
        s = out.apply(params["out"], h)
        (reward,) = pays.apply(params["pays"], jnp.concatenate([s, embedded]))
        return Imagined(ModelState(s, h), reward)

    def survival(params: Params, s: Array) -> Array:
        return lives.apply(params["lives"], s)[0]

    return WorldModel(size, init, encode, step, survival)
