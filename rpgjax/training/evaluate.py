"""How good a policy is: returns of whole episodes, each counted up to its first end."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax.envs import Env

from rpgjax.agents.agent import Agent, AgentState
from rpgjax.envs.episodes import is_finite, stepped
from rpgjax.types import Array, Key, Metrics

_EVALUATION_STREAM = 0x45564C  # keeps evaluation keys apart from every key that training derives


class _Episodes(NamedTuple):
    """A batch of running episodes. Leading axes: (seed, 2, episode); the 2 is mode and sample."""

    state: Any  # brax.envs.State
    mode_carry: Any  # policy carries, (seed, episode, ...)
    sample_carry: Any
    alive: Array  # bool, the episode goes on
    broken: Array  # bool, the dynamics stopped being finite before the episode ended
    returns: Array
    length: Array  # int32, steps until the first end
    success: Array | None  # the task's own, where the episode stands; None: it does not say
    step: Array  # () int32
    key: Key  # (seed,)


def evaluation_key(seed: int | Array, update: int | Array) -> Key:
    """The key of the evaluation after `update` updates: a function of both, never of history."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _EVALUATION_STREAM), update)


def evaluator(
    agent: Agent, env: Env, episodes: int, episode_length: int
) -> Callable[[AgentState, Key], Metrics]:
    """Builds `evaluate(states, keys)`, one program for the deterministic and the sampled policy.

    Both policies start from the same resets. An episode ends where the task says done, after
    `episode_length` steps, or where its dynamics stop being finite; what the task pays afterwards
    does not count. The program stops as soon as every episode has ended.

    Args:
        agent: whose policy is evaluated.
        env: a plain task, without automatic resets.
        episodes: how many episodes each of the two policies plays.
        episode_length: steps after which an episode is cut off.

    Returns:
        A pure function of states with a leading axis (seed,) and keys (seed,), to metrics of shape
        (seed,): mean and standard deviation of the undiscounted return, mean length, the fraction of
        the deterministic episodes whose dynamics broke, and, of a task whose metrics have `success`,
        how many had it when they ended.
    """

    def reset(state: AgentState, key: Key) -> tuple[Any, Any, Key]:
        reset_key, carry_key, key = jax.random.split(key, 3)
        env_state = jax.vmap(env.reset)(jax.random.split(reset_key, episodes))
        carry = jax.vmap(agent.policy(state).reset)(
            env_state.obs, jax.random.split(carry_key, episodes)
        )
        return env_state, carry, key

    def act(
        state: AgentState, mode_carry: Any, sample_carry: Any, observation: Array, key: Key
    ) -> tuple[Any, Any, Array]:
        """Actions (2, episode, action) at observations (2, episode, obs)."""
        policy = agent.policy(state)
        mode_carry, modes = jax.vmap(policy.mode)(mode_carry, observation[0])
        sample_carry, samples = jax.vmap(policy.sample)(
            sample_carry, observation[1], jax.random.split(key, episodes)
        )
        return mode_carry, sample_carry, jnp.stack([modes, samples])

    def evaluate(states: AgentState, keys: Key) -> Metrics:
        env_state, carry, keys = jax.vmap(reset)(states, keys)
        env_state = jax.tree.map(lambda x: jnp.stack([x, x], axis=1), env_state)
        shape = (keys.shape[0], 2, episodes)

        def advance(now: _Episodes) -> _Episodes:
            split = jax.vmap(jax.random.split)(now.key)
            mode_carry, sample_carry, action = jax.vmap(act)(
                states, now.mode_carry, now.sample_carry, now.state.obs, split[:, 0]
            )
            state = jax.vmap(jax.vmap(jax.vmap(partial(stepped, env))))(now.state, action)
            finite = is_finite(state)
            counted = now.alive & finite
            return _Episodes(
                state=state,
                mode_carry=mode_carry,
                sample_carry=sample_carry,
                alive=counted & (state.done == 0) & (now.step + 1 < episode_length),
                broken=now.broken | (now.alive & ~finite),
                returns=now.returns + jnp.where(counted, state.reward, 0.0),
                length=now.length + now.alive.astype(jnp.int32),
                success=None
                if now.success is None
                else jnp.where(counted, state.metrics["success"], now.success),
                step=now.step + 1,
                key=split[:, 1],
            )

        start = _Episodes(
            state=env_state,
            mode_carry=carry,
            sample_carry=carry,
            alive=jnp.ones(shape, bool),
            broken=jnp.zeros(shape, bool),
            returns=jnp.zeros(shape, env_state.reward.dtype),
            length=jnp.zeros(shape, jnp.int32),
            success=env_state.metrics.get("success"),
            step=jnp.zeros((), jnp.int32),
            key=keys,
        )
        end = jax.lax.while_loop(lambda now: jnp.any(now.alive), advance, start)
        mean, std = jnp.mean(end.returns, axis=-1), jnp.std(end.returns, axis=-1)
        length = jnp.mean(end.length.astype(mean.dtype), axis=-1)
        won = {}
        if end.success is not None:
            success = jnp.mean(end.success, axis=-1)
            won = {"eval/success": success[:, 0], "eval/stochastic_success": success[:, 1]}
        return won | {
            "eval/return_mean": mean[:, 0],
            "eval/return_std": std[:, 0],
            "eval/stochastic_return_mean": mean[:, 1],
            "eval/stochastic_return_std": std[:, 1],
            "eval/episode_length_mean": length[:, 0],
            "eval/stochastic_episode_length_mean": length[:, 1],
            "eval/nonfinite_fraction": jnp.mean(end.broken[:, 0].astype(mean.dtype), axis=-1),
        }

    return evaluate
