"""Entropy terms of SAPO (Xing et al., 2025)."""

import jax
import jax.numpy as jnp

from rpgjax.types import Array


def target_entropy(action_size: int) -> float:
    """Hbar = -dim(A) / 2."""
    return -0.5 * action_size


def normalised_entropy(log_prob: Array, target: float) -> Array:
    """h = (H + |Hbar|) / (2 |Hbar|) with the one-sample estimate H = -log_prob, shape of log_prob.

    It is 0 at the target entropy Hbar (negative) and 1 at |Hbar|, so that the bonus alpha * h has
    the same scale whatever the action's width.
    """
    return (-log_prob + abs(target)) / (2.0 * abs(target))


def temperature_loss(log_temperature: Array, log_prob: Array, target: float) -> Array:
    """alpha * (H - Hbar), averaged: descending it raises alpha while the entropy is under target.

    Gradient reaches `log_temperature` only.
    """
    excess = jax.lax.stop_gradient(-log_prob - target)
    return jnp.exp(log_temperature) * jnp.mean(excess)
