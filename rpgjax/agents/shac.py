"""SHAC: Accelerated Policy Learning with Parallel Differentiable Simulation (Xu et al., 2022)."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from brax.envs import Env

from rpgjax.agents.agent import Agent
from rpgjax.agents.config import ShortHorizonConfig
from rpgjax.agents.short_horizon import Variant, no_memory, short_horizon, training_episodes
from rpgjax.models.networks import Activation
from rpgjax.policies import PolicyHead, chunked, gaussian
from rpgjax.types import Count, NonNegative, Positive, Share, Traced


@dataclass(frozen=True)
class SHACConfig(ShortHorizonConfig):
    """The paper's settings for Ant; the rates decay over `learning_rate_decay_steps`, not the run."""

    critics: Count = 1
    actor_value: Literal["mean", "min"] = "mean"
    target_value: Literal["mean", "min"] = "mean"
    target_critic_keep: Share = 0.2
    actor_hidden: tuple[Count, ...] = (128, 64, 32)
    critic_hidden: tuple[Count, ...] = (64, 64)
    activation: Activation = "elu"
    critic_learning_rate: NonNegative = 2e-3
    learning_rate_floor: Share = 0.005  # the paper decays to 1e-5
    max_grad_norm: Positive = 1.0
    critic_passes: Count = 16
    log_std_init: Traced = -1.0
    chunk_length: Count = 1  # actions decided at once


def shac(env: Env, config: SHACConfig = SHACConfig(), head: PolicyHead | None = None) -> Agent:
    """A tanh-Gaussian with free log-std, ascending the window's return; a target critic bootstraps.

    Args:
        env: the task.
        config: the settings.
        head: a policy head of your own on observations, of chunk_length actions at once, in place of the
            Gaussian one that `config` describes.

    Raises:
        ValueError: static fields that cannot work together.
    """
    world = training_episodes(env, config)
    size = world.action_size * config.chunk_length
    head = head or gaussian(
        world.observation_size,
        size,
        config.actor_hidden,
        config.activation,
        log_std_init=config.log_std_init,
    )
    variant = Variant(
        head=chunked(head, config.chunk_length),
        init_memory=no_memory,
        reward=lambda memory, view: view.window.reward,
        penalty=lambda actor, memory, view, returns, key: (jnp.float32(0.0), {}),
        update_memory=lambda memory, view: (memory, {}),
        value_inputs=world.observation_size,
    )
    return short_horizon(world, config, variant)
