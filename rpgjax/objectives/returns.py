"""Returns: the actor's objective and the critic's targets.

Conventions, for arrays (T, ...): `reward[t]` follows the action at t; `next_value[t]` is the critic's
value of the observation reached by step t, *before* any reset; `terminated[t]` says that the task
ended there (nothing follows: bootstrap with 0) and `truncated[t]` that a time limit did (bootstrap
with `next_value[t]`). The window's end bootstraps like a time limit.
"""

import jax
import jax.numpy as jnp

from rpgjax.types import Array


def lambda_return(
    reward: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    discount: float | Array,
    lambda_: float | Array,
    survival: Array | None = None,
) -> Array:
    """TD(lambda) returns (T, ...), differentiable in reward and next_value.

    G_t = r_t + discount * (1 - terminated_t) * [ (1 - m_t) V_{t+1} + m_t G_{t+1} ]
    with m_t = lambda, and 0 at a truncation and at the window's end, where only the value is known.

    With lambda = 1 it is the discounted sum of rewards plus the value where the window or the episode
    stops (SHAC, Xu et al. 2022, eq. 5); with lambda < 1 the value of every state on the way enters,
    weighted as in TD(lambda) (SHAC eq. 7), which is how the gradient learns of cliffs that the
    rewards hide.

    A `survival` (T, ...) in [0, 1], a smooth stand-in for 1 - terminated, changes no value, but has its slope
    in the gradient: what is lost where the task ends becomes something to move away from. At a terminated
    step next_value is then asked for what would have followed.
    """
    goes_on = 1.0 - terminated.astype(reward.dtype)
    if survival is not None:
        goes_on = goes_on + survival - jax.lax.stop_gradient(survival)
    goes_on = discount * goes_on
    ended = jnp.logical_or(terminated, truncated)  # what follows is another episode's
    mix = lambda_ * (1.0 - ended.astype(reward.dtype))
    mix = mix.at[-1].set(0.0)

    def step(following: Array, inputs: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, value, goes_on, mix = inputs
        target = reward + goes_on * ((1.0 - mix) * value + mix * following)
        return target, target

    inputs = (reward, next_value, goes_on, mix)
    _, targets = jax.lax.scan(step, jnp.zeros_like(reward[0]), inputs, reverse=True)
    return targets


def segment_starts(terminated: Array, truncated: Array) -> Array:
    """1.0 where an episode, or the window, starts: (T, ...) from the ends of episodes (T, ...)."""
    ended = jnp.logical_or(terminated, truncated)
    first = jnp.ones_like(ended[:1])
    return jnp.concatenate([first, ended[:-1]]).astype(jnp.float32)


def window_objective(returns: Array, terminated: Array, truncated: Array) -> Array:
    """The short-horizon actor objective of each environment, (...), from lambda-returns (T, ...).

    The sum of the lambda-returns at the window's start and after each reset inside it, divided by T:
    each episode's part of the window is a return of its own, its discount starting at 1 again (SHAC
    eq. 5). lambda = 1 is exactly SHAC's objective.
    """
    starts = segment_starts(terminated, truncated).astype(returns.dtype)
    return jnp.sum(starts * returns, axis=0) / returns.shape[0]
