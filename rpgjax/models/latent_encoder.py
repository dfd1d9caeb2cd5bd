"""The latent encoder p_phi(z | s, a): which latent does a step look like?

Reparameterized Policy Learning (Huang et al., ICML 2023): log p_phi(z | tau) is the sum over a
trajectory's steps of log p_phi(z | s_t, a_t). Fitted by maximum likelihood to the policy's own steps.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rpgjax.models.networks import MLP
from rpgjax.types import Array, Key, Params

STD = 0.3989  # of the continuous encoder: 1 / sqrt(2 pi), where the density's constant is 1
UNIFORM = 0.2  # of the discrete encoder's probability is spread evenly, so that its log is bounded


class LatentEncoder(NamedTuple):
    """p_phi of one example."""

    init: Callable[[Key], Params]
    log_prob: Callable[
        [Params, Array, Array, Array], Array
    ]  # z (size,), s (obs,), a (action,) -> ()


def gaussian_encoder(
    size: int,
    observation_size: int,
    action_size: int,
    hidden: Sequence[int] = (256, 256),
    activation: str = "elu",
    *,
    layer_norm: bool = True,
    used: float | Array | None = None,
) -> LatentEncoder:
    """N(network(s, a), STD^2) on z (size,): log p is -pi times the squared distance.

    Where only the first `used` entries of z are, it is their density, and the rest does not count.
    """
    init, apply = _network(size, observation_size, action_size, hidden, activation, layer_norm)
    counted = jnp.ones(size) if used is None else (jnp.arange(size) < used).astype(jnp.float32)

    def log_prob(params: Params, z: Array, observation: Array, action: Array) -> Array:
        squared = (z - apply(params, observation, action)) ** 2
        constant = 0.5 * jnp.log(2.0 * jnp.pi * STD**2)
        return -jnp.sum(counted * (0.5 * squared / STD**2 + constant))

    return LatentEncoder(init, log_prob)


def categorical_encoder(
    size: int,
    observation_size: int,
    action_size: int,
    hidden: Sequence[int] = (256, 256),
    activation: str = "elu",
    *,
    layer_norm: bool = True,
) -> LatentEncoder:
    """0.8 softmax(network(s, a)) + 0.2 / size on one-hot z (size,)."""
    init, apply = _network(size, observation_size, action_size, hidden, activation, layer_norm)

    def log_prob(params: Params, z: Array, observation: Array, action: Array) -> Array:
        chance = jax.nn.softmax(apply(params, observation, action))
        return jnp.log(jnp.sum(z * ((1.0 - UNIFORM) * chance + UNIFORM / size)))

    return LatentEncoder(init, log_prob)


def _network(
    size: int,
    observation_size: int,
    action_size: int,
    hidden: Sequence[int],
    activation: str,
    layer_norm: bool,
) -> tuple[Callable[[Key], Params], Callable[[Params, Array, Array], Array]]:
    network = MLP(tuple(hidden), size, activation, layer_norm=layer_norm)

    def init(key: Key) -> Params:
        return network.init(key, jnp.zeros(observation_size + action_size))

    def apply(params: Params, observation: Array, action: Array) -> Array:
        return network.apply(params, jnp.concatenate([observation, action]))

    return init, apply
