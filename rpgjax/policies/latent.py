"""Policies with a latent: any head, told a z that is drawn once an episode.

Reparameterized Policy Learning (Huang et al., ICML 2023): a policy pi(a | s, z) with a latent z is a
generative model of trajectories, z says which kind. `latent(head, prior)` makes one of any head that is
made for observations [s, z].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rpgjax.models.networks import MLP
from rpgjax.policies.head import Carry, PolicyHead, PolicySample
from rpgjax.types import Array, Key, Params

LEAST_ALPHA_Z = 1e-6  # with no entropy of z to weigh the best one is drawn


class Prior(NamedTuple):
    """pi(z | s_1), of one example: how an episode's latent is drawn."""

    init: Callable[[Key], Params]
    sample: Callable[[Params, Array, Key], Array]  # s_1 (obs,) -> z (size,)
    log_prob: Callable[[Params, Array, Array], Array]  # s_1 (obs,), z (size,) -> ()
    worth: Callable[[Params, Array, Array], Array] | None = None  # Q_z(s_1)[z], where there is one


class Latent(NamedTuple):
    """What a latent head carries through an episode."""

    z: Array  # (size,)
    inner: Carry


def standard_normal(size: int, used: float | Array | None = None) -> Prior:
    """z ~ N(0, I), whatever the state, never trained: the paper's continuous latent.

    Where only the first `used` entries are, the rest of z is zero: () that may be traced, so that
    programs over several sizes are one.
    """
    drawn = jnp.ones(size) if used is None else (jnp.arange(size) < used).astype(jnp.float32)

    def log_prob(params: Params, observation: Array, z: Array) -> Array:
        return -0.5 * jnp.sum(drawn * (z**2 + jnp.log(2.0 * jnp.pi)))

    return Prior(
        init=lambda key: (),
        sample=lambda params, observation, key: drawn * jax.random.normal(key, (size,)),
        log_prob=log_prob,
    )


def categorical(
    size: int,
    observation_size: int,
    hidden: Sequence[int] = (256, 256),
    activation: str = "elu",
    temperature: float | Array = 0.1,
    *,
    layer_norm: bool = True,
) -> Prior:
    """z one-hot, pi(z | s_1) = softmax(network(s_1) / temperature), uniform at first.

    The paper's discrete latent, whose network is Q_z and whose temperature is alpha_z; where that is
    nothing, the best z is drawn.
    """
    network = MLP(tuple(hidden), size, activation, output_gain=0.0, layer_norm=layer_norm)

    def init(key: Key) -> Params:
        return network.init(key, jnp.zeros(observation_size))

    def logits(params: Params, observation: Array) -> Array:
        return network.apply(params, observation) / jnp.maximum(temperature, LEAST_ALPHA_Z)

    def worth(params: Params, observation: Array, z: Array) -> Array:
        return jnp.sum(z * network.apply(params, observation))

    return _chosen(size, init, logits)._replace(worth=worth)


def by_value(
    size: int,
    init: Callable[[Key], Params],
    value: Callable[[Params, Array, Array], Array],
) -> Prior:
    """z one-hot, pi(z | s_1) = softmax(V(s_1, z) / alpha_z): soft Q over z, said by a critic itself.

    Nothing is trained here: whoever trains the critic hands its parameters on, as {"critic",
    "sharpness"}, 1 / alpha_z. Until then pi is uniform. (alpha_z itself would be infinite until then, and
    an average over updates would stay so.)

    Args:
        size: how many latents.
        init: the critic's.
        value: of parameters, s (n, obs) and z (n, size): (critics, n), whose mean counts.
    """

    def begin(key: Key) -> Params:
        return {"critic": init(key), "sharpness": jnp.float32(0.0)}

    def logits(params: Params, observation: Array) -> Array:
        seen = jnp.broadcast_to(observation, (size, *observation.shape))
        values = jnp.mean(value(params["critic"], seen, jnp.eye(size)), axis=0)
        return jax.lax.stop_gradient(values * params["sharpness"])

    return _chosen(size, begin, logits)


def _chosen(
    size: int, init: Callable[[Key], Params], logits: Callable[[Params, Array], Array]
) -> Prior:
    """z one-hot, by logits (size,) of parameters and an observation."""
    if size < 1:
        raise ValueError("a discrete latent needs a latent_size of at least 1")

    def sample(params: Params, observation: Array, key: Key) -> Array:
        return jax.nn.one_hot(jax.random.categorical(key, logits(params, observation)), size)

    def log_prob(params: Params, observation: Array, z: Array) -> Array:
        return jnp.sum(z * jax.nn.log_softmax(logits(params, observation)))

    return Prior(init, sample, log_prob)


def latent(head: PolicyHead, prior: Prior) -> PolicyHead:
    """`head`, made for observations of width obs + z, as a head on (obs,) with a latent of its own.

    z is drawn from the prior where an episode starts, and held until it ends; no gradient flows into
    the prior through it. Samples carry it (`PolicySample.latent`), their `log_prob` is the inner
    head's, given z. Parameters are {"head", "prior"}.
    """

    def init(key: Key) -> Params:
        head_key, prior_key = jax.random.split(key)
        return {"head": head.init(head_key), "prior": prior.init(prior_key)}

    def told(observation: Array, z: Array) -> Array:
        return jnp.concatenate([observation, z])

    def reset(params: Params, observation: Array, key: Key) -> Latent:
        latent_key, inner_key = jax.random.split(key)
        z = jax.lax.stop_gradient(prior.sample(params["prior"], observation, latent_key))
        return Latent(z, head.reset(params["head"], told(observation, z), inner_key))

    def sample(
        params: Params, carry: Latent, observation: Array, key: Key
    ) -> tuple[Latent, PolicySample]:
        inner, drawn = head.sample(params["head"], carry.inner, told(observation, carry.z), key)
        return Latent(carry.z, inner), drawn._replace(latent=carry.z)

    def mode(params: Params, carry: Latent, observation: Array) -> tuple[Latent, Array]:
        inner, action = head.mode(params["head"], carry.inner, told(observation, carry.z))
        return Latent(carry.z, inner), action

    return PolicyHead(init, reset, sample, mode)
