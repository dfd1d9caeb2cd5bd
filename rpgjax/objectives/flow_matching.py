"""Conditional flow matching and what RFO uses it for (Zhong et al., 2026)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rpgjax.types import Array, Key

Velocity = Callable[[Array, Array], Array]  # v(x, u) at a fixed observation


def flow_matching_loss(velocity: Velocity, target: Array, key: Key) -> Array:
    """L_CFM of one example: || v((1-u) z0 + u z1, u) - (z1 - z0) ||^2, z0 ~ N(0, I), u ~ U[0, 1].

    Args:
        velocity: v(x, u), (action,) and () to (action,), the observation already bound.
        target: z1, (action,), before tanh. No gradient flows into it.
        key: for z0 and u.

    Returns:
        (), summed over the action's dimensions.
    """
    noise_key, time_key = jax.random.split(key)
    target = jax.lax.stop_gradient(target)
    noise = jax.random.normal(noise_key, target.shape, target.dtype)
    flow_time = jax.random.uniform(time_key, (), target.dtype)
    x = (1.0 - flow_time) * noise + flow_time * target
    return jnp.sum((velocity(x, flow_time) - (target - noise)) ** 2)


def uniform_target(key: Key, size: int, margin: float | Array = 1e-3) -> Array:
    """z1 = atanh(a), a uniform in the action box, (size,): the target of RFO's exploration term.

    `margin` keeps |a| <= 1 - margin, so that z1 stays finite.
    """
    action = jax.random.uniform(key, (size,), minval=-1.0, maxval=1.0)
    return jnp.arctanh(jnp.clip(action, -1.0 + margin, 1.0 - margin))
