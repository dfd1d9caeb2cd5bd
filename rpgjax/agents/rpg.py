"""RPG: Reparameterized Policy Learning with a world model (Huang et al., ICML 2023).

A policy pi(a | s, z) with a latent z, drawn once an episode, is trained on the variational bound: its
gradient goes through a learned model, a critic V(s, z) and the latent encoder p_phi(z | s, a). The
novelty of what is seen is a second reward. One call collects a few steps and learns as often.
"""

from typing import Any, NamedTuple

import flashbax
import jax
import jax.numpy as jnp
from brax.envs import Env

from rpgjax.agents.agent import Agent, Posterior, policy
from rpgjax.agents.paid_episodes import (
    PaidEpisodes,
    no_paid_episodes,
    paid_segments,
    with_window,
)
from rpgjax.agents.rpg_config import RPGConfig
from rpgjax.agents.rpg_learning import learn_model, learn_policy
from rpgjax.agents.rpg_parts import (
    Learner,
    Segment,
    encode,
    make_learner,
    make_parts,
    segment_of,
)
from rpgjax.envs.episodes import episodes
from rpgjax.policies import PolicyHead
from rpgjax.rollout import Normalise, RolloutState, Transition, start, unroll
from rpgjax.types import Array, Key, Metrics, Params, check_fields

BROKEN = "train/nonfinite_fraction"  # of what was imagined, or of the environments: the larger


class RPGState(NamedTuple):
    """Everything that a call reads and writes."""

    learner: Learner
    rollout: RolloutState
    replay: Any
    paid: PaidEpisodes  # where in replay they are
    updates: Array  # () int32, of the model, so far
    env_steps: Array  # () int32
    key: Key


def rpg(env: Env, config: RPGConfig = RPGConfig(), head: PolicyHead | None = None) -> Agent:
    """A latent-conditioned Gaussian or flow in a world model, on `env`.

    Args:
        env: the task.
        config: the settings.
        head: a policy head of your own on [s, z] (model_size + latent_size,), in place of the one that
            `config` describes. It carries nothing: imagination starts anywhere in an episode.

    Raises:
        ValueError: a field that cannot be so, or sizes that cannot work together.
    """
    check_fields(config)
    if config.horizon > config.steps_per_call:
        raise ValueError(
            f"horizon ({config.horizon}) must not exceed steps_per_call ({config.steps_per_call})"
        )
    if config.horizon > config.episode_length:
        raise ValueError(
            f"horizon ({config.horizon}) must not exceed episode_length ({config.episode_length}): "
            "the model never learns what follows an end"
        )
    paid_count = round(config.paid_share * config.batch_size)  # of the segments in a batch
    if config.paid_share > 0 and paid_count == 0:
        raise ValueError(
            f"paid_share ({config.paid_share:g}) of batch_size ({config.batch_size}) is no segment"
        )
    if config.updates_per_call % 2:
        raise ValueError(f"updates_per_call ({config.updates_per_call}) must be even")
    if not config.hidden:
        raise ValueError("hidden needs at least one layer: the model's recurrent state is as wide")
    if config.replay_size < config.num_envs * config.steps_per_call:
        raise ValueError(
            f"replay_size ({config.replay_size}) must hold a call's steps "
            f"({config.num_envs} environments x {config.steps_per_call})"
        )
    world = episodes(env, config.episode_length, config.bank_size)
    parts = make_parts(world, config, head)
    held = config.replay_size // config.num_envs  # steps of every environment
    replay = flashbax.make_trajectory_buffer(
        add_batch_size=config.num_envs,
        sample_batch_size=config.batch_size,
        sample_sequence_length=config.horizon,
        period=1,
        min_length_time_axis=config.horizon,
        max_length_time_axis=held,
    )

    def seen(model: Params) -> Normalise:
        """Observations as heads see them."""
        return lambda observation: encode(parts, model, observation).obs

    def collect(
        learner: Learner, rollout: RolloutState, key: Key
    ) -> tuple[RolloutState, Transition]:
        look, steps = seen(learner.model), config.steps_per_call
        return unroll(parts.head, world, learner.actor, look, rollout, key, steps)

    def init(key: Key) -> RPGState:
        learner_key, rollout_key, key = jax.random.split(key, 3)
        learner = make_learner(parts, learner_key)
        look = seen(learner.model)
        rollout = start(parts.head, world, learner.actor, look, rollout_key, config.num_envs)
        steps = jax.eval_shape(lambda: segment_of(collect(learner, rollout, key)[1]))
        example = jax.tree.map(lambda x: jnp.zeros(x.shape[2:], x.dtype), steps)
        stored, paid = replay.init(example), no_paid_episodes(config.num_envs)
        return RPGState(learner, rollout, stored, paid, jnp.int32(0), jnp.int32(0), key)

    def learn(stored: Any, paid: PaidEpisodes, carry: tuple[Learner, Array], key: Key):
        """Two updates of the model, and one of the policy from where the second started."""
        model_key, policy_key = jax.random.split(key)

        def of_model(carry: tuple[Learner, Array], key: Key):
            learner, updates = carry
            sample_key, learn_key = jax.random.split(key)
            segment = sample(stored, paid, sample_key)
            learner, metrics = learn_model(parts, config, learner, segment, updates, learn_key)
            return (learner, updates + 1), (segment, metrics)

        carry, seen = jax.lax.scan(of_model, carry, jax.random.split(model_key))
        segment, metrics = jax.tree.map(lambda x: x[-1], seen)
        learner, more = learn_policy(parts, config, carry[0], segment, policy_key)
        return (learner, carry[1]), metrics | more

    def sample(stored: Any, paid: PaidEpisodes, key: Key) -> Segment:
        """Segments (H, B, ...), drawn evenly; the first `paid_share` of them from paid episodes.

        These keep the latents of those that they take the place of. Targets are imagined, so that any
        z may be told what a step led to; the z that was paid will not be drawn again.
        """
        with jax.numpy_rank_promotion("allow"):  # flashbax adds (B, 1) to (H,)
            batch = replay.sample(stored, key).experience
        batch = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch)
        if paid_count == 0:
            return batch
        own_key = jax.random.fold_in(key, 1)
        env, first, exists = paid_segments(paid, own_key, paid_count, config.horizon, held)
        steps = (first[None] + jnp.arange(config.horizon)[:, None]) % held

        def mixed(drawn: Array, own: Array) -> Array:
            there = exists.reshape(1, paid_count, *(1,) * (drawn.ndim - 2))
            return drawn.at[:, :paid_count].set(jnp.where(there, own, drawn[:, :paid_count]))

        own = jax.tree.map(lambda x: x[env[None], steps], stored.experience)
        first_latent = jnp.broadcast_to(batch.latent[:1, :paid_count], own.latent.shape)
        own = own._replace(latent=first_latent)
        return jax.tree.map(mixed, batch, own)

    def update(state: RPGState) -> tuple[RPGState, Metrics]:
        key, collect_key, learn_key, bank_key = jax.random.split(state.key, 4)
        rollout, window = collect(state.learner, state.rollout, collect_key)
        by_env = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), segment_of(window))
        stored = replay.add(state.replay, by_env)
        ended = window.terminated | window.truncated
        paid = with_window(state.paid, window.reward, ended, config.horizon)
        env_steps = state.env_steps + config.steps_per_call * config.num_envs

        def learn_all(carry: tuple[Learner, Array]):
            keys = jax.random.split(learn_key, config.updates_per_call // 2)
            carry, metrics = jax.lax.scan(lambda c, k: learn(stored, paid, c, k), carry, keys)
            broken = {BROKEN: jnp.max(metrics[BROKEN])}
            return carry, jax.tree.map(lambda x: x[-1], metrics) | broken

        carry = (state.learner, state.updates)
        (learner, updates), metrics = maybe(env_steps >= config.warm_up, learn_all, carry)
        metrics |= {
            "train/reward_mean": jnp.mean(window.reward),
            BROKEN: jnp.maximum(metrics[BROKEN], jnp.mean(~jnp.all(window.finite, axis=0))),
            "train/paid_episodes": paid.count.astype(jnp.float32),
        }
        rollout = rollout._replace(bank=world.refresh_bank(rollout.bank, bank_key))
        return RPGState(learner, rollout, stored, paid, updates, env_steps, key), metrics

    def posterior(state: RPGState) -> Posterior:
        look, encoder = seen(state.learner.model), state.learner.encoder
        return lambda z, o, a: parts.posterior.log_prob(encoder, z, look(o), a)

    return Agent(
        init=init,
        update=update,
        policy=lambda state: policy(parts.head, state.learner.actor, seen(state.learner.model)),
        steps_per_update=config.num_envs * config.steps_per_call,
        posterior=posterior if config.latent_size else None,
        fusion_emitters=True,
    )


def maybe(condition: Array, step: Any, carry: Any) -> tuple[Any, Metrics]:
    """`step(carry)` where the condition holds; else `carry` as it is, and metrics of zero."""
    _, shapes = jax.eval_shape(step, carry)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.cond(condition, step, lambda carry: (carry, nothing), carry)
