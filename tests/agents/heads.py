"""A policy head as a user might write one."""

import jax
import jax.numpy as jnp

from rpgjax.policies import PolicyHead
from rpgjax.policies.head import no_carry, squash


def linear_head(inputs, actions=1):
    """tanh of a linear map, with fixed noise and no density."""

    def sample(params, carry, seen, key):
        noise = 0.1 * jax.random.normal(key, (actions,))
        return carry, squash(params @ seen + noise)

    def mode(params, carry, seen):
        return carry, jnp.tanh(params @ seen)

    return PolicyHead(lambda key: jnp.zeros((actions, inputs)), no_carry, sample, mode)
