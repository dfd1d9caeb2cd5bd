"""APG: analytic policy gradient, the plainest use of a differentiable simulator.

Ascend the discounted reward of a short window, with no critic. What the other agents add is measured
against this; Brax ships an agent of the same name.
"""

from dataclasses import dataclass
from typing import NamedTuple

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
from rpgjax.envs.episodes import episodes
from rpgjax.models.networks import Activation
from rpgjax.objectives.returns import lambda_return, window_objective
from rpgjax.policies import PolicyHead, gaussian
from rpgjax.rollout import RolloutState, start, unroll
from rpgjax.types import (
    Array,
    Count,
    Key,
    Metrics,
    NonNegative,
    Params,
    Positive,
    Share,
    Traced,
    check_fields,
)


@dataclass(frozen=True)
class APGConfig:
    """`Traced` fields may be arrays, as in a sweep; the rest is static."""

    num_envs: Count = 64
    horizon: Count = 32  # environment steps in a window
    episode_length: Count = 1000
    discount: Share = 0.99
    actor_hidden: tuple[Count, ...] = (256, 128)
    activation: Activation = "elu"
    actor_learning_rate: NonNegative = 1e-3
    max_grad_norm: Positive = 1.0
    log_std_init: Traced = -1.0
    bank_size: Count = 128


class APGState(NamedTuple):
    """Everything that an update reads and writes."""

    actor: Params
    optimizer: optax.OptState
    statistics: Statistics
    rollout: RolloutState
    key: Key


def apg(env: Env, config: APGConfig = APGConfig(), head: PolicyHead | None = None) -> Agent:
    """A tanh-Gaussian that ascends the window's discounted reward.

    Args:
        env: the task.
        config: the settings.
        head: a policy head of your own, in place of the Gaussian one that `config` describes.

    Raises:
        ValueError: a field that cannot be so.
    """
    check_fields(config)
    world = episodes(env, config.episode_length, config.bank_size)
    head = head or gaussian(
        world.observation_size,
        world.action_size,
        config.actor_hidden,
        config.activation,
        log_std_init=config.log_std_init,
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), optax.adam(config.actor_learning_rate)
    )

    def init(key: Key) -> APGState:
        actor_key, rollout_key, key = jax.random.split(key, 3)
        actor = head.init(actor_key)
        statistics = initial_statistics(world.observation_size)
        rollout = start(head, world, actor, normaliser(statistics), rollout_key, config.num_envs)
        return APGState(actor, optimizer.init(actor), statistics, rollout, key)

    def loss(actor: Params, probe: Array, state: APGState, key: Key):
        rollout, window = unroll(
            head,
            world,
            actor,
            normaliser(state.statistics),
            state.rollout,
            key,
            config.horizon,
            probe,
        )
        nothing_follows = jnp.zeros_like(window.reward)
        ends = window.terminated, window.truncated
        returns = lambda_return(window.reward, nothing_follows, *ends, config.discount, lambda_=1.0)
        return -jnp.mean(window_objective(returns, *ends)), (rollout, window)

    def update(state: APGState) -> tuple[APGState, Metrics]:
        key, roll_key, bank_key = jax.random.split(state.key, 3)
        (gradient, broken), (rollout, window) = jax.grad(loss, argnums=(0, 1), has_aux=True)(
            state.actor, jnp.zeros(config.num_envs), state, roll_key
        )
        actor, optimizer_state, grad_norm = descend(
            optimizer, gradient, state.actor, state.optimizer
        )
        state = APGState(
            actor=actor,
            optimizer=optimizer_state,
            statistics=update_statistics(state.statistics, window.observation, world.least_std),
            rollout=rollout._replace(bank=world.refresh_bank(rollout.bank, bank_key)),
            key=key,
        )
        metrics = {
            "train/grad_norm": grad_norm,
            "train/nonfinite_fraction": nonfinite_fraction(broken, window.finite),
            "train/reward_mean": jnp.mean(window.reward),
            "train/action_saturation": jnp.mean(jnp.abs(window.action) > 0.99),
        }
        return state, metrics

    return Agent(
        init=init,
        update=update,
        policy=lambda state: policy(head, state.actor, normaliser(state.statistics)),
        steps_per_update=config.num_envs * config.horizon,
    )
