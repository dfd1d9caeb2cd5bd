"""The heart: unroll a policy head and a world together, differentiably.

The world is anything that steps like `rpgjax.envs.episodes`: a Brax task, an analytic one, a learned
model. Gradients run from every reward and observation back through the dynamics into the actions and
through the head into its parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rpgjax.envs.episodes import Episodes, EpisodeState, observation
from rpgjax.physics.stabilizers import is_float
from rpgjax.policies.head import Carry, PolicyHead
from rpgjax.types import Array, Key, Params

Normalise = Callable[[Array], Array]  # a raw observation to what heads and critics see


class RolloutState(NamedTuple):
    """Where a batch of episodes stands between two windows. Leaves lead with (B,), the bank's do not."""

    episode: EpisodeState
    carry: Carry
    bank: Any


class Transition(NamedTuple):
    """What one window recorded, (T, B, ...)."""

    observation: Array  # (T, B, obs) raw, where the action was taken
    action: Array  # (T, B, action)
    pre_squash: Array  # (T, B, action)
    log_prob: Array | None  # (T, B)
    decision: Array  # (T, B, decision)
    is_decision: Array  # (T, B) bool
    reward: Array  # (T, B)
    next_observation: Array  # (T, B, obs) raw, reached by the step, before any reset
    terminated: Array  # (T, B) bool
    truncated: Array  # (T, B) bool
    finite: Array  # (T, B) bool, False where the dynamics broke
    survival: Array  # (T, B) the chance that the task goes on after the step, as it tells; else 1
    pace: Array  # (T, B) m/s forward, as the task tells; else 0
    is_first: Array  # (T, B) bool, the first step of an episode
    latent: Array | None  # (T, B, z), where the head has one


def start(
    head: PolicyHead,
    episodes: Episodes,
    params: Params,
    normalise: Normalise,
    key: Key,
    num_envs: int,
) -> RolloutState:
    """A batch of new episodes whose phases are spread over the episode length."""
    bank_key, reset_key, phase_key, carry_key = jax.random.split(key, 4)
    bank = episodes.sample_bank(bank_key)
    episode = jax.vmap(episodes.reset, (None, 0))(bank, jax.random.split(reset_key, num_envs))
    episode = jax.vmap(episodes.desynchronise)(episode, jax.random.split(phase_key, num_envs))
    carry = jax.vmap(lambda state, key: head.reset(params, normalise(observation(state)), key))(
        episode, jax.random.split(carry_key, num_envs)
    )
    return RolloutState(episode, carry, bank)


def unroll(
    head: PolicyHead,
    episodes: Episodes,
    params: Params,
    normalise: Normalise,
    state: RolloutState,
    key: Key,
    horizon: int,
    probe: Array | None = None,
    stabilise: Callable[[EpisodeState, Any], EpisodeState] = lambda state, step_input: state,
    step_inputs: Any = (),
    unrolled: bool = False,
) -> tuple[RolloutState, Transition]:
    """Steps the batch `horizon` times; differentiable in `params`.

    The incoming state is a constant: a window's gradient ends where the window starts.

    Args:
        head: the policy.
        episodes: the world.
        params: the head's parameters.
        normalise: applied to observations before the head sees them; frozen for the window.
        state: where the episodes stand.
        key: for actions and resets.
        horizon: T, in environment steps.
        probe: (B,) zeros or None. Where the backward pass meets a non-finite cotangent, that
            environment's cotangent is replaced by zeros, and the gradient with respect to its probe
            is 1 or more (see `guard`).
        stabilise: applied to one environment's state, and its part of `step_inputs`, before each step;
            an identity that tempers the gradient on its way back (`rpgjax.physics.stabilizers`).
        step_inputs: what `stabilise` gets beside the state, leaves (T, B, ...).
        unrolled: whether to compile the steps one after the other and not as a loop, which is faster
            where they are few and small.

    Returns:
        The state after the window, and the window (T, B, ...).
    """
    num_envs = state.episode.step_count.shape[0]
    probe = jnp.zeros(num_envs) if probe is None else probe

    def step(
        bank: Any, episode: EpisodeState, carry: Carry, probe: Array, step_input: Any, key: Key
    ):
        action_key, reset_key, carry_key = jax.random.split(key, 3)
        episode = stabilise(episode, step_input)
        seen, is_first = observation(episode), episode.step_count == 0
        carry, drawn = head.sample(params, carry, normalise(seen), action_key)
        episode, action = guard((episode, drawn.action), probe)
        episode, report = episodes.step(bank, episode, action, reset_key)
        ended = jnp.logical_or(report.terminated, report.truncated)
        fresh = head.reset(params, normalise(report.observation), carry_key)
        carry = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, carry)
        transition = Transition(
            observation=seen,
            action=drawn.action,
            pre_squash=drawn.pre_squash,
            log_prob=drawn.log_prob,
            decision=drawn.decision,
            is_decision=drawn.is_decision,
            reward=report.reward,
            next_observation=report.final_observation,
            terminated=report.terminated,
            truncated=report.truncated,
            finite=report.finite,
            survival=report.survival,
            pace=report.pace,
            is_first=is_first,
            latent=drawn.latent,
        )
        return episode, carry, transition

    def batched_step(loop: tuple[EpisodeState, Carry], inputs: tuple[Any, Key]):
        step_input, key = inputs
        keys = jax.random.split(key, num_envs)
        episode, carry, transition = jax.vmap(step, (None, 0, 0, 0, 0, 0))(
            state.bank, *loop, probe, step_input, keys
        )
        return (episode, carry), transition

    loop = jax.lax.stop_gradient((state.episode, state.carry))
    inputs = (step_inputs, jax.random.split(key, horizon))
    (episode, carry), transitions = jax.lax.scan(
        batched_step, loop, inputs, unroll=horizon if unrolled else 1
    )
    return RolloutState(episode, carry, state.bank), transitions


@jax.custom_vjp
def guard(tree: Any, probe: Array) -> Any:
    """Identity forward. Backward: a cotangent with any non-finite entry becomes zeros, and is counted.

    One example; under `vmap` each environment is judged alone, so one broken environment costs its own
    contribution and no other's. The count arrives as the gradient with respect to `probe`, ().
    """
    del probe
    return tree


def _guard_forward(tree: Any, probe: Array) -> tuple[Any, Array]:
    return tree, probe


def _guard_backward(probe: Array, cotangent: Any) -> tuple[Any, Array]:
    leaves = [x for x in jax.tree.leaves(cotangent) if is_float(x)]
    finite = jnp.array(True)
    for leaf in leaves:
        finite &= jnp.all(jnp.isfinite(leaf))

    def mask(x: Any) -> Any:  # integers have cotangents that are no arrays
        return jnp.where(finite, x, jnp.zeros_like(x)) if is_float(x) else x

    return jax.tree.map(mask, cotangent), jnp.where(finite, 0.0, 1.0).astype(probe.dtype)


guard.defvjp(_guard_forward, _guard_backward)
