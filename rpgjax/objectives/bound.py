"""The variational bound of Reparameterized Policy Learning (Huang et al., ICML 2023), term by term.

With p(optimal | trajectory) proportional to exp(R / T),

    log p(optimal) >= E[ -alpha_z log pi(z | s_1) + sum_t gamma^t
                         ( R_t / T - alpha log pi(a_t | s_t, z) + beta log p_phi(z | s_t, a_t) ) ]

up to constants, with a weight on each term. What stands behind the sum is a reward; what stands before
it is where an episode begins.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rpgjax.types import Array


class Weights(NamedTuple):
    """At a moment of training, () each."""

    temperature: Array | float  # T: rewards are divided by it
    action_entropy: Array | float  # alpha
    latent_entropy: Array | float  # alpha_z
    information: Array | float  # beta


def step_terms(
    weights: Weights, reward: Array, log_prob: Array | None, log_posterior: Array
) -> Array:
    """What a step adds to the bound, (...), differentiable in all arguments.

    Args:
        weights: of the terms.
        reward: R_t, (...).
        log_prob: log pi(a_t | s_t, z), (...); None where the head has no density: without the term.
        log_posterior: log p_phi(z | s_t, a_t), (...).
    """
    total = reward / weights.temperature + weights.information * log_posterior
    return total if log_prob is None else total - weights.action_entropy * log_prob


def score_function(
    log_prior: Array, returns: Array, is_first: Array, latent_entropy: Array | float
) -> Array:
    """() whose gradient in `log_prior` ascends the bound in pi(z | s_1): for latents that are drawn.

    The mean over episodes' first steps of log pi(z | s_1) (G - b - alpha_z log pi(z | s_1)), what is
    in brackets held constant; b is the mean, so that only differences between latents count.

    Args:
        log_prior: log pi(z | s_1), (...), at every step; only those of first steps count.
        returns: G, the bound's later terms from that step on, (...).
        is_first: True where an episode starts, (...).
        latent_entropy: alpha_z.
    """
    weight = is_first.astype(returns.dtype)
    count = jnp.maximum(jnp.sum(weight), 1.0)
    worth = jax.lax.stop_gradient(returns - latent_entropy * log_prior)
    advantage = worth - jnp.sum(weight * worth) / count
    return jnp.sum(weight * log_prior * advantage) / count


def k_step_value(
    reward: Array,
    bonus: Array,
    next_value: Array,
    discount: float | Array,
    weight_decay: float | Array = 0.97,
    survival: Array | None = None,
) -> Array:
    """The value of a short imagined rollout, (...), from arrays (H, ...): all its depths, averaged.

    v_i = sum_{j<=i} d_j (r_j + e_j) + gamma d_i V(s_{i+1}, z) with d_0 = 1 and d_(j+1) = gamma p_j d_j; the
    average weighs v_i by `weight_decay`^i. V(s_{i+1}, z) is what comes on average of a step that reached
    s_{i+1}, nothing where the episode ended there: p_i is in it already.

    Args:
        reward: r_t, what the model says that the step from s_t to s_{t+1} pays.
        bonus: e_t, the bound's other terms at t.
        next_value: V(s_{t+1}, z), not V(s_t, z).
        discount: gamma.
        weight_decay: of the depths.
        survival: p_t, the chance that the episode goes on from s_{t+1}; None: it always does.
    """
    horizon = reward.shape[0]
    shape = (horizon,) + (1,) * (reward.ndim - 1)
    weights = (jnp.asarray(weight_decay) ** jnp.arange(horizon)).reshape(shape)
    goes_on = discount * (jnp.ones_like(reward) if survival is None else survival)
    d = jnp.cumprod(jnp.concatenate([jnp.ones_like(reward[:1]), goes_on[:-1]]), axis=0)
    values = jnp.cumsum(d * (reward + bonus), axis=0) + discount * d * next_value
    return jnp.sum(weights * values, axis=0) / jnp.sum(weights)
