"""Novelty by random network distillation, as RPG has it (Huang et al., ICML 2023)."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rpgjax.models.networks import orthogonal
from rpgjax.types import Array, Key, Params

OUTPUTS = 512
CLIP = 100.0


class Distilled(nn.Module):
    """Three linear layers of 512 with LeakyReLU between."""

    width: int = OUTPUTS

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(obs,) to (width,)."""
        for _ in range(2):
            x = nn.leaky_relu(nn.Dense(self.width, kernel_init=orthogonal(1.0))(x))
        return nn.Dense(self.width, kernel_init=orthogonal(1.0))(x)


class Spread(NamedTuple):
    """All-time mean and variance of the prediction errors (Welford)."""

    count: Array  # ()
    mean: Array  # ()
    squares: Array  # () sum of squared deviations


class Novelty(NamedTuple):
    """Pure functions of one observation."""

    init: Callable[[Key], Params]  # {"fixed", "learned"}
    error: Callable[[Params, Array], Array]  # (obs,) -> ()


def random_network(observation_size: int, width: int = OUTPUTS) -> Novelty:
    """|g(o) - g'(o)|^2, summed over outputs: g is fixed, g' learns to say the same; smooth in o."""
    network = Distilled(width)

    def init(key: Key) -> Params:
        example = jnp.zeros(observation_size)
        fixed, learned = (network.init(k, example) for k in jax.random.split(key))
        return {"fixed": fixed, "learned": learned}

    def error(params: Params, observation: Array) -> Array:
        # The network is fixed, the observation is not: physics differentiates in it.
        target = network.apply(jax.lax.stop_gradient(params["fixed"]), observation)
        return jnp.sum((network.apply(params["learned"], observation) - target) ** 2)

    return Novelty(init, error)


def no_spread() -> Spread:
    """Before the first error."""
    return Spread(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))


def widen(spread: Spread, errors: Array) -> Spread:
    """The spread with a batch of errors (n,) taken in."""
    count = spread.count + errors.size
    mean, squares = jnp.mean(errors), jnp.sum((errors - jnp.mean(errors)) ** 2)
    gap = mean - spread.mean
    return Spread(
        count,
        spread.mean + gap * errors.size / count,
        spread.squares + squares + gap**2 * spread.count * errors.size / count,
    )


def intrinsic_reward(spread: Spread, error: Array) -> Array:
    """(e - mean) / std, clipped to +-100; 0 before anything was seen. Shape of `error`."""
    std = jnp.sqrt(spread.squares / jnp.maximum(spread.count, 1.0))
    scaled = (error - spread.mean) / jnp.where(std > 0, std, 1.0)
    return jnp.where(spread.count > 0, jnp.clip(scaled, -CLIP, CLIP), 0.0)
