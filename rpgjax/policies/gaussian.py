"""The tanh-Gaussian head of SHAC (state-independent std) and SAPO (state-dependent std)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rpgjax.models.networks import MLP
from rpgjax.policies.head import PolicyHead, no_carry, squash
from rpgjax.types import Array, Key, Params


def gaussian(
    observation_size: int,
    action_size: int,
    hidden: Sequence[int] = (128, 64, 32),
    activation: str = "elu",
    *,
    state_dependent_std: bool = False,
    log_std_init: float | Array = -1.0,
    log_std_bounds: tuple[float, float] = (-5.0, 2.0),
    layer_norm: bool = True,
) -> PolicyHead:
    """action = tanh(x), x ~ N(mean(s), std^2), reparameterised.

    Args:
        observation_size: width of the normalised observation.
        action_size: width of the action.
        hidden: hidden widths of the network.
        activation: "elu", "silu" or "tanh".
        state_dependent_std: True, the network puts out log-std beside the mean (SAPO); False, log-std
            is a free parameter for each action dimension (SHAC).
        log_std_init: where log-std starts.
        log_std_bounds: log-std is clipped to this interval.
        layer_norm: after every hidden layer, as SHAC and SAPO have it.

    Returns:
        A head whose samples carry `log_prob`, the density of the squashed action.
    """
    outputs = 2 * action_size if state_dependent_std else action_size
    network = MLP(tuple(hidden), outputs, activation, output_gain=0.01, layer_norm=layer_norm)

    def init(key: Key) -> Params:
        params = {"network": network.init(key, jnp.zeros(observation_size))}
        if not state_dependent_std:
            params["log_std"] = jnp.full(action_size, log_std_init, jnp.result_type(float))
        return params

    def distribution(params: Params, observation: Array) -> tuple[Array, Array]:
        output = network.apply(params["network"], observation)
        if state_dependent_std:
            mean, log_std = output[:action_size], output[action_size:] + log_std_init
        else:
            mean, log_std = output, params["log_std"]
        return mean, jnp.clip(log_std, *log_std_bounds)

    def sample(params: Params, carry: tuple, observation: Array, key: Key):
        mean, log_std = distribution(params, observation)
        noise = jax.random.normal(key, mean.shape)
        x = mean + jnp.exp(log_std) * noise
        return carry, squash(x, _squashed_log_prob(x, noise, log_std))

    def mode(params: Params, carry: tuple, observation: Array) -> tuple[tuple, Array]:
        mean, _ = distribution(params, observation)
        return carry, jnp.tanh(mean)

    return PolicyHead(init, no_carry, sample, mode)


def _squashed_log_prob(x: Array, noise: Array, log_std: Array) -> Array:
    """log-density of tanh(x) with x = mean + std * noise; 1 - tanh^2 in a form that cannot be log 0."""
    normal = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_jacobian = 2.0 * (jnp.log(2.0) - x - jax.nn.softplus(-2.0 * x))
    return jnp.sum(normal - log_jacobian)
