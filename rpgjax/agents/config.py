"""The settings of SHAC, SAPO, RFO and RPG through physics, what is wrong with them, and the optimizers."""

from dataclasses import dataclass
from typing import Literal

import optax

from rpgjax.models.networks import Activation
from rpgjax.types import (
    Array,
    Count,
    Decay,
    NonNegative,
    Number,
    Positive,
    Share,
    Traced,
    check_fields,
    is_known,
    known_to_be,
)


@dataclass(frozen=True)
class ShortHorizonConfig:
    """What the four have in common. `Traced` fields may be arrays; the rest is static."""

    num_envs: Count = 64
    horizon: Count = 32  # H, environment steps in a window
    episode_length: Count = 1000  # environment steps until an episode is truncated
    discount: Share = 0.99
    actor_lambda: Share = 1.0  # 1: SHAC's window objective; less: every step's value enters
    survival_slope: NonNegative = 0.0  # weight of the chance to survive, in the actor's gradient
    pace_bonus: Traced = 0.0  # paid for each m/s of the task's pace, in training alone
    reward_scale: Traced = 1.0  # multiplies what actor and critics are paid, bonus included
    critic_lambda: Share = 0.95  # TD(lambda) of the critic's targets
    return_weight: Traced = 1.0  # multiplies J / H; H gives the J that is not divided
    critics: Count = 2  # independent value networks
    actor_value: Literal["mean", "min"] = "mean"  # over the critics, in the actor's objective
    target_value: Literal["mean", "min"] = "min"  # over the critics, in the critics' targets
    target_critic_keep: Share = 0.0  # how much of the old target critic stays; 0: no target critic
    actor_hidden: tuple[Count, ...] = (256, 128)
    critic_hidden: tuple[Count, ...] = (128, 128)
    activation: Activation = "silu"
    actor_learning_rate: NonNegative = 2e-3
    critic_learning_rate: NonNegative = 5e-4
    learning_rate_floor: Share = 0.2  # fraction of the rates that stays after the decay
    learning_rate_decay_steps: Count = 1_200_000  # environment steps of linear decay
    adam_b1: Decay = 0.7
    adam_b2: Decay = 0.95
    actor_average_keep: Share = 0.0  # of the averaged actor, which is evaluated; 0: the last actor
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 0.5
    max_cotangent_norm: NonNegative = 0.0  # limit between steps, on one environment's loss; 0: off
    cotangent_decay: Share = 1.0  # kept of it at each step on its way back; 1: off
    max_growth: NonNegative = 0.0  # of it over a step: AHAC cuts windows shorter above that; 0: off
    horizon_rate: NonNegative = 0.2  # of AHAC's multipliers and of its horizon
    critic_passes: Count = 8  # passes over the window's samples in an update
    critic_minibatches: Count = 4  # minibatches in a pass
    bank_size: Count = 128  # first states of episodes, drawn in advance
    archive_size: Number = 0  # of these: visited states, spread over where objects have been
    training_length: Number = 0  # of training's episodes; 0: episode_length, which evaluation has


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
    """Raises ValueError, in one line, where a field cannot be so, or some cannot work together."""
    check_fields(config)
    samples = config.num_envs * config.horizon
    if samples % config.critic_minibatches:
        raise ValueError(
            f"num_envs * horizon = {samples} can't be cut into {config.critic_minibatches} minibatches"
        )
    cuts, limit = not known_to_be(config.max_growth, 0.0), config.max_cotangent_norm
    if cuts and is_known(limit) and limit > 0:
        raise ValueError("max_growth measures what max_cotangent_norm limits: set one of them to 0")
    if cuts and getattr(config, "chunk_length", 1) > 1:
        raise ValueError("max_growth cuts windows, not plans: set it to 0, or chunk_length to 1")
