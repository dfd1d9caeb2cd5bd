"""The actor-critic update through dynamics that SHAC, SAPO, RFO and RPG through physics share.

SHAC (Xu et al., 2022): unroll a short window through the simulator, ascend its return plus the
critic's value where the window stops, fit the critic to TD(lambda) targets from the same window. What
they differ in is a `Variant`: the head, what is added to the reward, what is added to the actor's
loss, and what is remembered from one update to the next.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from brax.envs import Env

from rpgjax.agents.agent import (
    Agent,
    Statistics,
    descend,
    initial_statistics,
    nonfinite_fraction,
    normaliser,
    policy,
    update_statistics,
)
from rpgjax.agents.config import ShortHorizonConfig, check, optimizer
from rpgjax.agents.critic import Samples, fit_critics
from rpgjax.envs.episodes import Episodes, EpisodeState, episodes
from rpgjax.models.networks import critic_network
from rpgjax.objectives.returns import lambda_return, window_objective
from rpgjax.physics.adaptive_horizon import (
    AdaptiveHorizon,
    adapt,
    cut_and_measure,
    full_horizon,
    growth,
    piece_starts,
)
from rpgjax.physics.stabilizers import stabiliser
from rpgjax.policies.head import PolicyHead
from rpgjax.rollout import Normalise, RolloutState, Transition, start, unroll
from rpgjax.types import Array, Key, Metrics, Params, known_to_be

Memory = Any


class View(NamedTuple):
    """A window, and what it is looked at with."""

    window: Transition  # its rewards as training pays them: scaled, with the bonus
    normalise: Normalise
    env_steps: Array  # () float, taken before the window


class Variant(NamedTuple):
    """What makes the shared update SHAC, SAPO, RFO or RPG. Single window in, arrays (T, B, ...)."""

    head: PolicyHead
    init_memory: Callable[[Transition, Key], Memory]  # from a window's shapes
    reward: Callable[[Memory, View], Array]  # (T, B), what actor and critics see
    penalty: Callable[[Params, Memory, View, Array, Key], tuple[Array, Metrics]]  # of the returns
    update_memory: Callable[[Memory, View], tuple[Memory, Metrics]]
    value_inputs: int  # what the critics see of a state: its width,
    value_input: Callable[[Array, Transition], Array] = lambda observation, window: observation
    adopt: Callable[[Params, Params, View], Params] = lambda actor, critic, view: actor


class ShortHorizonState(NamedTuple):
    """Everything that an update reads and writes."""

    actor: Params
    averaged_actor: Params  # over updates; for evaluation and export
    actor_optimizer: optax.OptState
    critic: Params
    target_critic: Params
    critic_optimizer: optax.OptState
    statistics: Statistics
    rollout: RolloutState
    memory: Memory
    adaptive_horizon: AdaptiveHorizon | None  # None: windows are not cut
    update: Array  # () int32
    key: Key


class Probes(NamedTuple):
    """Zeros whose gradients tell what the backward pass met."""

    broken: Array  # (B,), see `rollout.guard`
    norm: Array | None  # (T, B), of the state's cotangent before each step; None: not measured


def training_episodes(env: Env, config: ShortHorizonConfig) -> Episodes:
    """The task as training runs it; refuses settings that cannot be (`check`) before anything is built."""
    check(config)
    return episodes(
        env,
        config.training_length or config.episode_length,
        config.bank_size,
        archive_size=config.archive_size,
    )


def short_horizon(world: Episodes, config: ShortHorizonConfig, variant: Variant) -> Agent:
    """The agent that `variant` describes, in `world`."""
    init_critic, critic = critic_network(
        variant.value_inputs, config.critic_hidden, config.activation, config.critics
    )
    actor_optimizer = optimizer(config, config.actor_learning_rate, 1)
    critic_steps = config.critic_passes * config.critic_minibatches
    critic_optimizer = optimizer(config, config.critic_learning_rate, critic_steps)
    over_critics = {"mean": jnp.mean, "min": jnp.min}
    steps_per_update = config.num_envs * config.horizon
    # The loss is the mean over environments: the limit is told for one of them alone.
    temper = stabiliser(config.max_cotangent_norm / config.num_envs, config.cotangent_decay)
    adapts = not known_to_be(config.max_growth, 0.0)

    def stabilise(state: EpisodeState, boundary: tuple[()] | tuple[Array, Array]) -> EpisodeState:
        return temper(cut_and_measure(state, *boundary) if boundary else state)

    def init(key: Key) -> ShortHorizonState:
        actor_key, critic_key, rollout_key, key = jax.random.split(key, 4)
        actor, critic = variant.head.init(actor_key), init_critic(critic_key)
        statistics = initial_statistics(world.observation_size)
        normalise = normaliser(statistics)
        rollout = start(variant.head, world, actor, normalise, rollout_key, config.num_envs)
        horizon = full_horizon(config.horizon) if adapts else None
        window = jax.eval_shape(
            lambda: roll(actor, no_probes(), horizon, normalise, rollout, key)[1]
        )
        return ShortHorizonState(
            actor=actor,
            averaged_actor=jax.tree.map(jnp.copy, actor),  # donated buffers must not be shared
            actor_optimizer=actor_optimizer.init(actor),
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            critic_optimizer=critic_optimizer.init(critic),
            statistics=statistics,
            rollout=rollout,
            memory=variant.init_memory(window, jax.random.fold_in(actor_key, 1)),
            adaptive_horizon=horizon,
            update=jnp.int32(0),
            key=key,
        )

    def no_probes() -> Probes:
        shape = (config.horizon, config.num_envs)
        return Probes(jnp.zeros(config.num_envs), jnp.zeros(shape) if adapts else None)

    def roll(
        actor: Params,
        probes: Probes,
        horizon: AdaptiveHorizon | None,
        normalise: Normalise,
        rollout: RolloutState,
        key: Key,
    ) -> tuple[RolloutState, Transition]:
        boundaries = ()
        if horizon is not None:
            keep = jnp.where(piece_starts(horizon), 0.0, 1.0)
            boundaries = (jnp.broadcast_to(keep[:, None], probes.norm.shape), probes.norm)
        return unroll(
            variant.head,
            world,
            actor,
            normalise,
            rollout,
            key,
            config.horizon,
            probes.broken,
            stabilise,
            boundaries,
        )

    def look(state: ShortHorizonState, window: Transition) -> View:
        env_steps = state.update * float(steps_per_update)
        paid = config.reward_scale * (window.reward + config.pace_bonus * window.pace)
        return View(window._replace(reward=paid), normaliser(state.statistics), env_steps)

    def actor_loss(
        actor: Params, probes: Probes, state: ShortHorizonState, roll_key: Key, penalty_key: Key
    ):
        """-J plus the variant's penalty, and the window it was measured on."""
        normalise = normaliser(state.statistics)
        rollout, window = roll(
            actor, probes, state.adaptive_horizon, normalise, state.rollout, roll_key
        )
        seen = variant.value_input(normalise(window.next_observation), window)
        next_values = critic(state.target_critic, seen)
        view = look(state, window)
        reward = variant.reward(state.memory, view)
        ends = window.terminated, bootstrapped(window.truncated, state.adaptive_horizon)
        returns = lambda_return(
            reward,
            over_critics[config.actor_value](next_values, axis=0),
            *ends,
            config.discount,
            config.actor_lambda,
            config.survival_slope * window.survival,
        )
        objective = window_objective(returns, *ends)
        penalty, metrics = variant.penalty(actor, state.memory, view, returns, penalty_key)
        loss = penalty - config.return_weight * jnp.mean(objective)
        metrics["train/actor_objective"] = jnp.mean(objective)
        return loss, (rollout, window, reward, next_values, metrics)

    def fit_critic(
        state: ShortHorizonState, window: Transition, reward: Array, next_values: Array, key: Key
    ) -> tuple[Params, optax.OptState, Array]:
        """Regresses every critic to the same TD(lambda) targets."""
        targets = lambda_return(
            reward,
            over_critics[config.target_value](next_values, axis=0),
            window.terminated,
            window.truncated,
            config.discount,
            config.critic_lambda,
        )
        observation = normaliser(state.statistics)(window.observation)
        samples = Samples(
            variant.value_input(observation, window),
            targets,
            window.finite.astype(targets.dtype),
        )
        return fit_critics(
            critic,
            critic_optimizer,
            state.critic,
            state.critic_optimizer,
            samples,
            key,
            config.critic_passes,
            config.critic_minibatches,
        )

    def update(state: ShortHorizonState) -> tuple[ShortHorizonState, Metrics]:
        key, roll_key, penalty_key, critic_key, bank_key = jax.random.split(state.key, 5)

        (gradient, probed), aux = jax.grad(actor_loss, argnums=(0, 1), has_aux=True)(
            state.actor, no_probes(), state, roll_key, penalty_key
        )
        rollout, window, reward, next_values, metrics = jax.lax.stop_gradient(aux)
        actor, actor_state, grad_norm = descend(
            actor_optimizer, gradient, state.actor, state.actor_optimizer
        )
        critic, critic_state, critic_loss = fit_critic(
            state, window, reward, next_values, critic_key
        )
        actor = variant.adopt(actor, critic, look(state, window))
        target_critic = optax.incremental_update(
            critic, state.target_critic, 1.0 - config.target_critic_keep
        )
        memory, learned = variant.update_memory(state.memory, look(state, window))
        bank = world.archive(world.refresh_bank(rollout.bank, bank_key), rollout.episode)
        horizon = state.adaptive_horizon
        if horizon is not None:
            metrics["train/horizon"] = horizon.steps
            grown = growth(probed.norm, horizon)
            metrics["train/growth_max"] = jnp.max(grown)
            horizon = adapt(horizon, grown, config.max_growth, config.horizon_rate)
        metrics |= learned | {
            "train/grad_norm": grad_norm,
            "train/nonfinite_fraction": nonfinite_fraction(probed.broken, window.finite),
            "train/critic_loss": critic_loss,
            "train/reward_mean": jnp.mean(window.reward),
            "train/value_mean": jnp.mean(next_values),
            "train/action_saturation": jnp.mean(jnp.abs(window.action) > 0.99),
        }
        state = ShortHorizonState(
            actor=actor,
            averaged_actor=optax.incremental_update(
                actor, state.averaged_actor, 1.0 - config.actor_average_keep
            ),
            actor_optimizer=actor_state,
            critic=critic,
            target_critic=target_critic,
            critic_optimizer=critic_state,
            statistics=update_statistics(state.statistics, window.observation, world.least_std),
            rollout=rollout._replace(bank=bank),
            memory=memory,
            adaptive_horizon=horizon,
            update=state.update + 1,
            key=key,
        )
        return state, metrics

    return Agent(
        init=init,
        update=update,
        policy=lambda state: policy(
            variant.head, state.averaged_actor, normaliser(state.statistics)
        ),
        steps_per_update=steps_per_update,
    )


def bootstrapped(truncated: Array, horizon: AdaptiveHorizon | None) -> Array:
    """Where the critic takes over in the actor's objective, (T, B): time limits and pieces' ends."""
    if horizon is None:
        return truncated
    return truncated | jnp.roll(piece_starts(horizon), -1)[:, None]


def no_memory(window: Transition, key: Key) -> tuple[()]:
    """For variants that remember nothing."""
    return ()
