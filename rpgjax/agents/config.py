"""The settings that SHAC, SAPO and RFO share, what is wrong with them, and the optimizers they make."""

from dataclasses import dataclass
from typing import Literal

import optax

from rpgjax.models.networks import Activation
from rpgjax.types import Array, Traced


@dataclass(frozen=True)
class ShortHorizonConfig:
    """What the three algorithms have in common. `Traced` fields may be arrays; the rest is static."""

    num_envs: int = 64
    horizon: int = 32  # H, environment steps in a window
    episode_length: int = 1000  # environment steps until an episode is truncated
    discount: Traced = 0.99
    actor_lambda: Traced = 1.0  # 1: SHAC's window objective; less: every step's value enters
    survival_slope: Traced = 0.0  # weight of the chance to survive, in the actor's gradient
    pace_bonus: Traced = 0.0  # paid for each m/s of the task's pace, in training alone
    reward_scale: Traced = 1.0  # multiplies what actor and critics are paid, bonus included
    critic_lambda: Traced = 0.95  # TD(lambda) of the critic's targets
    return_weight: Traced = 1.0  # multiplies J / H; H gives the J that is not divided
    critics: int = 2  # independent value networks
    actor_value: Literal["mean", "min"] = "mean"  # over the critics, in the actor's objective
    target_value: Literal["mean", "min"] = "min"  # over the critics, in the critics' targets
    target_critic_keep: Traced = 0.0  # how much of the old target critic stays; 0: no target critic
    actor_hidden: tuple[int, ...] = (256, 128)
    critic_hidden: tuple[int, ...] = (128, 128)
    activation: Activation = "silu"
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
    max_growth: Traced = 0.0  # of it over a step: AHAC cuts windows shorter above that; 0: off
    horizon_rate: Traced = 0.2  # of AHAC's multipliers and of its horizon
    critic_passes: int = 8  # passes over the window's samples in an update
    critic_minibatches: int = 4  # minibatches in a pass
    bank_size: int = 128  # pre-sampled reset states
    revisits: int = 0  # visited states that join them in an update: episodes start there, too
    training_length: int = 0  # of training's episodes; 0: episode_length, which evaluation has


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
    if config.critic_passes < 1 or config.critic_minibatches < 1:
        raise ValueError("critic_passes and critic_minibatches must be at least 1")
    check_discount(config.discount)
    if not 0 <= config.revisits <= min(config.num_envs, config.bank_size):
        raise ValueError(
            f"revisits ({config.revisits}) must not exceed num_envs ({config.num_envs}) "
            f"or bank_size ({config.bank_size})"
        )
    if samples % config.critic_minibatches:
        raise ValueError(
            f"num_envs * horizon = {samples} can't be cut into {config.critic_minibatches} minibatches"
        )


def check_discount(discount: float | Array) -> None:
    """Raises ValueError where the discount is known, and none."""
    if isinstance(discount, float) and not 0.0 <= discount <= 1.0:
        raise ValueError(f"discount ({discount:g}) must be between 0 and 1")
