"""The actor-critic update through dynamics that SHAC, SAPO and RFO share.

SHAC (Xu et al., 2022): unroll a short window through the simulator, ascend its return plus the
critic's value where the window stops, fit the critic to TD(lambda) targets from the same window. What
the three differ in is a `Variant`: the head, what is added to the reward, what is added to the actor's
loss, and what is remembered from one update to the next.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

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
from rpgjax.envs.episodes import Episodes
from rpgjax.models.networks import critic_network
from rpgjax.objectives.returns import lambda_return, window_objective
from rpgjax.physics.stabilizers import stabiliser
from rpgjax.policies.head import PolicyHead
from rpgjax.rollout import Normalise, RolloutState, Transition, start, unroll
from rpgjax.types import Array, Key, Metrics, Params, Traced

Memory = Any


@dataclass(frozen=True)
class ShortHorizonConfig:
    """What the three algorithms have in common. `Traced` fields may be arrays; the rest is static."""

    num_envs: int = 64
    horizon: int = 32  # H, environment steps in a window
    episode_length: int = 1000  # environment steps until an episode is truncated
    discount: Traced = 0.99
    actor_lambda: Traced = 1.0  # 1: SHAC's window objective; less: every step's value enters
    critic_lambda: Traced = 0.95  # TD(lambda) of the critic's targets
    return_weight: Traced = 1.0  # multiplies J / H; H gives the J that is not divided
    critics: int = 2  # independent value networks
    actor_value: Literal["mean", "min"] = "mean"  # over the critics, in the actor's objective
    target_value: Literal["mean", "min"] = "min"  # over the critics, in the critics' targets
    target_critic_keep: Traced = 0.0  # how much of the old target critic stays; 0: no target critic
    actor_hidden: tuple[int, ...] = (256, 128)
    critic_hidden: tuple[int, ...] = (128, 128)
    activation: str = "silu"
    actor_learning_rate: Traced = 2e-3
    critic_learning_rate: Traced = 5e-4
    learning_rate_floor: Traced = 0.2  # fraction of the rates that stays after the decay
    learning_rate_decay_steps: int = 1_200_000  # environment steps of linear decay
    adam_b1: Traced = 0.7
    adam_b2: Traced = 0.95
    actor_average_keep: Traced = 0.0  # of the averaged actor, which is evaluated; 0: the last actor
    weight_decay: Traced = 0.0
    max_grad_norm: Traced = 0.5
    max_cotangent_norm: Traced = 0.0  # limit between two steps, on one environment's J / H; 0: off
    cotangent_decay: Traced = 1.0  # kept of it at each step on its way back; 1: off
    critic_passes: int = 8  # passes over the window's samples in an update
    critic_minibatches: int = 4  # minibatches in a pass
    bank_size: int = 128  # pre-sampled reset states


class Variant(NamedTuple):
    """What makes the shared update SHAC, SAPO or RFO. Single window in, arrays (T, B, ...)."""

    head: PolicyHead
    init_memory: Callable[[Transition], Memory]  # from a window's shapes
    reward: Callable[[Memory, Transition], Array]  # (T, B), what actor and critics see
    penalty: Callable[[Params, Memory, Transition, Normalise, Array, Key], tuple[Array, Metrics]]
    update_memory: Callable[[Memory, Transition], Memory]


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
    update: Array  # () int32
    key: Key


def short_horizon(episodes: Episodes, config: ShortHorizonConfig, variant: Variant) -> Agent:
    """The agent that `variant` describes, on `episodes`."""
    check(config)
    init_critic, critic = critic_network(
        episodes.observation_size, config.critic_hidden, config.activation, config.critics
    )
    actor_optimizer = optimizer(config, config.actor_learning_rate, 1)
    critic_steps = config.critic_passes * config.critic_minibatches
    critic_optimizer = optimizer(config, config.critic_learning_rate, critic_steps)
    over_critics = {"mean": jnp.mean, "min": jnp.min}
    steps_per_update = config.num_envs * config.horizon
    # The loss is the mean over environments: the limit is told for one of them alone.
    stabilise = stabiliser(config.max_cotangent_norm / config.num_envs, config.cotangent_decay)

    def init(key: Key) -> ShortHorizonState:
        actor_key, critic_key, rollout_key, key = jax.random.split(key, 4)
        actor, critic = variant.head.init(actor_key), init_critic(critic_key)
        statistics = initial_statistics(episodes.observation_size)
        normalise = normaliser(statistics)
        rollout = start(variant.head, episodes, actor, normalise, rollout_key, config.num_envs)
        window = jax.eval_shape(lambda: roll(actor, normalise, rollout, key)[1])
        return ShortHorizonState(
            actor=actor,
            averaged_actor=jax.tree.map(jnp.copy, actor),  # donated buffers must not be shared
            actor_optimizer=actor_optimizer.init(actor),
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            critic_optimizer=critic_optimizer.init(critic),
            statistics=statistics,
            rollout=rollout,
            memory=variant.init_memory(window),
            update=jnp.int32(0),
            key=key,
        )

    def roll(
        actor: Params, normalise: Normalise, rollout: RolloutState, key: Key, probe=None
    ) -> tuple[RolloutState, Transition]:
        head, horizon = variant.head, config.horizon
        return unroll(head, episodes, actor, normalise, rollout, key, horizon, probe, stabilise)

    def actor_loss(
        actor: Params, probe: Array, state: ShortHorizonState, roll_key: Key, penalty_key: Key
    ):
        """-J plus the variant's penalty, and the window it was measured on."""
        normalise = normaliser(state.statistics)
        rollout, window = roll(actor, normalise, state.rollout, roll_key, probe)
        next_values = critic(state.target_critic, normalise(window.next_observation))
        reward = variant.reward(state.memory, window)
        objective = window_objective(
            reward,
            over_critics[config.actor_value](next_values, axis=0),
            window.terminated,
            window.truncated,
            config.discount,
            config.actor_lambda,
        )
        env_steps = state.update * float(steps_per_update)
        penalty, metrics = variant.penalty(
            actor, state.memory, window, normalise, env_steps, penalty_key
        )
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
        samples = (observation, targets, window.finite.astype(targets.dtype))
        samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples)

        def loss(params: Params, batch: tuple[Array, Array, Array]) -> Array:
            observation, target, weight = batch
            error = (critic(params, observation) - target[None]) ** 2
            # A sum over the critics: each one's gradient is what it would be alone.
            return jnp.sum(jnp.mean(error * weight[None], axis=1))

        def step(carry: tuple[Params, optax.OptState], batch: tuple[Array, Array, Array]):
            params, optimizer_state = carry
            value, gradient = jax.value_and_grad(loss)(params, batch)
            params, optimizer_state, _ = descend(
                critic_optimizer, gradient, params, optimizer_state
            )
            return (params, optimizer_state), value

        def one_pass(carry: tuple[Params, optax.OptState], key: Key):
            order = jax.random.permutation(key, steps_per_update)
            order = order.reshape(config.critic_minibatches, -1)
            return jax.lax.scan(
                lambda c, i: step(c, jax.tree.map(lambda x: x[i], samples)), carry, order
            )

        carry = (state.critic, state.critic_optimizer)
        carry, losses = jax.lax.scan(one_pass, carry, jax.random.split(key, config.critic_passes))
        return *carry, losses[-1].mean() / config.critics

    def update(state: ShortHorizonState) -> tuple[ShortHorizonState, Metrics]:
        key, roll_key, penalty_key, critic_key, bank_key = jax.random.split(state.key, 5)

        probe = jnp.zeros(config.num_envs)
        (gradient, broken), aux = jax.grad(actor_loss, argnums=(0, 1), has_aux=True)(
            state.actor, probe, state, roll_key, penalty_key
        )
        rollout, window, reward, next_values, metrics = jax.lax.stop_gradient(aux)
        actor, actor_state, grad_norm = descend(
            actor_optimizer, gradient, state.actor, state.actor_optimizer
        )
        critic, critic_state, critic_loss = fit_critic(
            state, window, reward, next_values, critic_key
        )
        target_critic = optax.incremental_update(
            critic, state.target_critic, 1.0 - config.target_critic_keep
        )
        bank = episodes.refresh_bank(rollout.bank, bank_key)
        metrics |= {
            "train/grad_norm": grad_norm,
            "train/nonfinite_fraction": nonfinite_fraction(broken, window.finite),
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
            statistics=update_statistics(state.statistics, window.observation),
            rollout=rollout._replace(bank=bank),
            memory=variant.update_memory(state.memory, window),
            update=state.update + 1,
            key=key,
        )
        return state, metrics

    return Agent(
        init=init,
        update=update,
        policy=lambda state: policy(variant.head, state.averaged_actor, state.statistics),
        steps_per_update=steps_per_update,
    )


def optimizer(
    config: ShortHorizonConfig, learning_rate: float | Array, steps_per_update: int
) -> optax.GradientTransformation:
    """AdamW with clipped gradients; the rate falls linearly to its floor, then stays there."""
    updates = max(1, config.learning_rate_decay_steps // (config.num_envs * config.horizon))
    schedule = optax.linear_schedule(
        learning_rate, learning_rate * config.learning_rate_floor, updates * steps_per_update
    )
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(config.adam_b1, config.adam_b2),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(schedule),
    )


def check(config: ShortHorizonConfig) -> None:
    """Raises ValueError, in one line, where static fields cannot work together."""
    samples = config.num_envs * config.horizon
    if config.num_envs < 1 or config.horizon < 1 or config.episode_length < 1:
        raise ValueError("num_envs, horizon and episode_length must be at least 1")
    if samples % config.critic_minibatches:
        raise ValueError(
            f"num_envs * horizon = {samples} can't be cut into {config.critic_minibatches} minibatches"
        )


def no_memory(window: Transition) -> tuple[()]:
    """For variants that remember nothing."""
    return ()
