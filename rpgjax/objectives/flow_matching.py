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


def mean_flow_matching(
    velocity: Callable[[Array, Array, Array], Array],
    seen: Array,
    target: Array,
    weight: Array,
    key: Key,
) -> Array:
    """The weighted mean of L_CFM over a window, ().

    Args:
        velocity: v(s, x, u) of one example, its parameters bound.
        seen: s, (T, B, inputs).
        target: z1, (T, B, action), before tanh.
        weight: (T, B).
        key: for z0 and u.
    """

    def one(seen: Array, target: Array, key: Key) -> Array:
        return flow_matching_loss(lambda x, u: velocity(seen, x, u), target, key)

    losses = jax.vmap(jax.vmap(one))(seen, target, jax.random.split(key, weight.shape))
    return jnp.sum(losses * weight) / jnp.maximum(jnp.sum(weight), 1.0)


def uniform_targets(
    key: Key, shape: tuple[int, int], size: int, margin: float | Array = 1e-3
) -> Array:
    """`uniform_target` for a window of `shape` (T, B): (T, B, size)."""
    each = jax.vmap(jax.vmap(lambda key: uniform_target(key, size, margin)))
    return each(jax.random.split(key, shape))
