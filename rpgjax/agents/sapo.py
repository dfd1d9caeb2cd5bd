"""SAPO: Stabilizing Reinforcement Learning in Differentiable Multiphysics Simulation (Xing et al., 2025).

Maximum-entropy SHAC: the reward gains a learned multiple of the policy's entropy.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from brax.envs import Env

from rpgjax.agents.agent import Agent
from rpgjax.agents.config import ShortHorizonConfig
from rpgjax.agents.short_horizon import Variant, View, short_horizon, training_episodes
from rpgjax.objectives.entropy import normalised_entropy, target_entropy, temperature_loss
from rpgjax.policies import gaussian
from rpgjax.rollout import Transition
from rpgjax.types import Array, Key, Metrics, NonNegative, Params, Share, Traced


@dataclass(frozen=True)
class SAPOConfig(ShortHorizonConfig):
    """SAPO's: two critics, no target critic, mean in the actor, min in the targets.

    The critics' sizes and their 8 passes (SHAC's are 16) are the shared defaults, not the paper's.
    """

    learning_rate_floor: Share = 0.005
    weight_decay: NonNegative = 0.01
    temperature_init: NonNegative = 1.0
    temperature_learning_rate: NonNegative = 5e-3
    log_std_init: Traced = 0.0


class Temperature(NamedTuple):
    """alpha, learned so that the entropy stays near its target."""

    log_alpha: Array  # ()
    optimizer: optax.OptState


def sapo(env: Env, config: SAPOConfig = SAPOConfig()) -> Agent:
    """A squashed Gaussian with state-dependent std, on r + alpha * h with h the normalised entropy.

    Raises:
        ValueError: static fields that cannot work together.
    """
    world = training_episodes(env, config)
    target = target_entropy(world.action_size)
    temperature_optimizer = optax.adam(config.temperature_learning_rate)

    def init_temperature(window: Transition, key: Key) -> Temperature:
        log_alpha = jnp.log(jnp.float32(config.temperature_init))
        return Temperature(log_alpha, temperature_optimizer.init(log_alpha))

    def soft_reward(temperature: Temperature, view: View) -> Array:
        alpha = jax.lax.stop_gradient(jnp.exp(temperature.log_alpha))
        return view.window.reward + alpha * normalised_entropy(view.window.log_prob, target)

    def update_temperature(temperature: Temperature, view: View) -> tuple[Temperature, Metrics]:
        log_prob = view.window.log_prob
        gradient = jax.grad(temperature_loss)(temperature.log_alpha, log_prob, target)
        updates, state = temperature_optimizer.update(gradient, temperature.optimizer)
        return Temperature(optax.apply_updates(temperature.log_alpha, updates), state), {}

    def report(
        actor: Params, temperature: Temperature, view: View, returns: Array, key: Key
    ) -> tuple[Array, Metrics]:
        metrics = {
            "train/entropy": -jnp.mean(view.window.log_prob),
            "train/temperature": jnp.exp(temperature.log_alpha),
        }
        return jnp.float32(0.0), metrics

    variant = Variant(
        head=gaussian(
            world.observation_size,
            world.action_size,
            config.actor_hidden,
            config.activation,
            state_dependent_std=True,
            log_std_init=config.log_std_init,
        ),
        init_memory=init_temperature,
        reward=soft_reward,
        penalty=report,
        update_memory=update_temperature,
        value_inputs=world.observation_size,
    )
    return short_horizon(world, config, variant)
