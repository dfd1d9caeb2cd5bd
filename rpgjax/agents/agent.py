"""The contract of an agent, and what every agent does alike."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from brax.training.acme import running_statistics
from brax.training.acme.specs import Array as ArraySpec

from rpgjax.policies.head import Carry, PolicyHead
from rpgjax.types import Array, Key, Metrics, Params

AgentState = Any  # a pytree: params, optimizers, episodes, statistics, key, counters
Statistics = running_statistics.RunningStatisticsState


# log p(z | s, a) of a latent (z,), a raw observation (obs,) and an action (action,)
Posterior = Callable[[Array, Array, Array], Array]


class Policy(NamedTuple):
    """A trained policy on raw observations, single example: for evaluation and export."""

    reset: Callable[[Array, Key], Carry]  # first observation (obs,), key
    sample: Callable[[Carry, Array, Key], tuple[Carry, Array]]  # -> carry, action (action,)
    mode: Callable[[Carry, Array], tuple[Carry, Array]]  # deterministic


def told(policy: Policy, z: Array) -> Policy:
    """A policy with a latent that has this z (z,) in every episode, in place of one that it draws."""
    return policy._replace(reset=lambda *seen: policy.reset(*seen)._replace(z=z))


class Agent(NamedTuple):
    """An algorithm on a task, as pure functions: jit, vmap, scan or shard them."""

    init: Callable[[Key], AgentState]
    update: Callable[[AgentState], tuple[AgentState, Metrics]]
    policy: Callable[[AgentState], Policy]
    steps_per_update: int  # environment steps
    posterior: Callable[[AgentState], Posterior] | None = None  # where the policy has a latent
    # Whether a CPU's programs are made by XLA's fusion emitters. Networks are half as fast again, in the
    # gradient of physics they take long to compile and gain nothing.
    fusion_emitters: bool = False


def initial_statistics(observation_size: int) -> Statistics:
    """Running mean and std of observations, before the first one."""
    return running_statistics.init_state(ArraySpec((observation_size,), jnp.dtype("float32")))


def update_statistics(
    statistics: Statistics, observation: Array, least_std: Array | float
) -> Statistics:
    """Statistics with a window's raw observations (T, B, obs) taken in; no std is below `least_std`."""
    with jax.numpy_rank_promotion("allow"):  # Brax broadcasts (obs,) against (T, B, obs)
        return running_statistics.update(
            statistics, jax.lax.stop_gradient(observation), std_min_value=least_std
        )


def normaliser(statistics: Statistics) -> Callable[[Array], Array]:
    """Raw observations (..., obs) to zero mean and unit std, as of `statistics`."""

    def normalise(observation: Array) -> Array:
        mean = jnp.broadcast_to(statistics.mean, observation.shape)
        return (observation - mean) / jnp.broadcast_to(statistics.std, observation.shape)

    return normalise


def policy(head: PolicyHead, params: Params, normalise: Callable[[Array], Array]) -> Policy:
    """`head` with its parameters, and what it sees of a raw observation, bound."""

    def sample(carry: Carry, observation: Array, key: Key) -> tuple[Carry, Array]:
        carry, drawn = head.sample(params, carry, normalise(observation), key)
        return carry, drawn.action

    return Policy(
        reset=lambda observation, key: head.reset(params, normalise(observation), key),
        sample=sample,
        mode=lambda carry, observation: head.mode(params, carry, normalise(observation)),
    )


def descend(
    optimizer: optax.GradientTransformation, gradient: Params, params: Params, state: optax.OptState
) -> tuple[Params, optax.OptState, Array]:
    """One optimizer step; returns parameters, optimizer state and the gradient's norm.

    A gradient that is not finite changes nothing: neither the parameters nor the optimizer's moments.
    """
    norm = optax.tree.norm(gradient)
    updates, new_state = optimizer.update(gradient, state, params)
    new = (optax.apply_updates(params, updates), new_state)
    params, state = jax.tree.map(
        lambda new, old: jnp.where(jnp.isfinite(norm), new, old), new, (params, state)
    )
    return params, state, norm


def nonfinite_fraction(probe_gradient: Array, finite: Array) -> Array:
    """Fraction of environments whose dynamics or gradient broke in a window.

    Args:
        probe_gradient: (B,), what `rollout.guard` counted backwards.
        finite: (T, B), what the episodes saw forwards.
    """
    return jnp.mean(jnp.logical_or(probe_gradient != 0, ~jnp.all(finite, axis=0)))
