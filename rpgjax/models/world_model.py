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

from rpgjax.models.networks import MLP, orthogonal, side_by_side
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
    follow: Callable[[Params, ModelState, Array], Imagined]  # actions (T, action) -> (T, ...)
    survival: Callable[[Params, Array], Array]  # s' (size,) -> () logit of the episode going on


class GRU(nn.Module):
    """A gated recurrent unit (Cho et al., 2014) whose three gates are one product of the input, one of h."""

    width: int

    def setup(self) -> None:
        """Kernels of the gates side by side: reset, update, candidate."""
        recurrent = side_by_side(orthogonal(1.0), 3)
        self.of_input = nn.Dense(
            3 * self.width, kernel_init=side_by_side(nn.initializers.lecun_normal(), 3)
        )
        self.of_hidden = nn.Dense(3 * self.width, kernel_init=recurrent)

    def inputs(self, x: Array) -> Array:
        """What inputs (..., inputs) contribute to the gates, (..., 3 width)."""
        return self.of_input(x)

    def advance(self, h: Array, inputs: Array) -> Array:
        """h (..., width) after a step with the contributions of its input."""
        reset_x, update_x, candidate_x = jnp.split(inputs, 3, axis=-1)
        reset_h, update_h, candidate_h = jnp.split(self.of_hidden(h), 3, axis=-1)
        reset, update = nn.sigmoid(reset_x + reset_h), nn.sigmoid(update_x + update_h)
        candidate = nn.tanh(candidate_x + reset * candidate_h)
        return (1.0 - update) * candidate + update * h

    def step(self, h: Array, x: Array) -> Array:
        """h after a step with input x (..., inputs)."""
        return self.advance(h, self.inputs(x))


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
    cell = GRU(width)

    def init(key: Key) -> Params:
        keys = iter(jax.random.split(key, 7))
        s, h = jnp.zeros(size), jnp.zeros(width)
        return {
            "encoder": encoder.init(next(keys), jnp.zeros(observation_size)),
            "start": start.init(next(keys), s),
            "embed": embed.init(next(keys), jnp.zeros(action_size)),
            "cell": cell.init(next(keys), h, h, method="step"),
            "out": out.init(next(keys), h),
            "pays": pays.init(next(keys), jnp.concatenate([s, h])),
            "lives": lives.init(next(keys), s),
        }

    def encode(params: Params, observation: Array) -> ModelState:
        s = encoder.apply(params["encoder"], observation)
        return ModelState(s, start.apply(params["start"], s))

    def read(params: Params, h: Array, embedded: Array) -> Imagined:
        """What states h (..., width), reached by actions, look like and pay."""
        s = out.apply(params["out"], h)
        reward = pays.apply(params["pays"], jnp.concatenate([s, embedded], axis=-1))
        return Imagined(ModelState(s, h), reward[..., 0])

    def step(params: Params, state: ModelState, action: Array) -> Imagined:
        embedded = embed.apply(params["embed"], action)
        h = cell.apply(params["cell"], state.hidden, embedded, method="step")
        return read(params, h, embedded)

    def follow(params: Params, state: ModelState, actions: Array) -> Imagined:
        # Only h goes from step to step: everything else is one product over all of them.
        embedded = embed.apply(params["embed"], actions)
        gates = cell.apply(params["cell"], embedded, method="inputs")
        h, reached = state.hidden, []
        for gate in gates:
            h = cell.apply(params["cell"], h, gate, method="advance")
            reached.append(h)
        return read(params, jnp.stack(reached), embedded)

    def survival(params: Params, s: Array) -> Array:
        return lives.apply(params["lives"], s)[0]

    return WorldModel(size, init, encode, step, follow, survival)
