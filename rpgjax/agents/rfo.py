"""RFO: Reparameterization Flow Policy Optimization (Zhong et al., 2026).

The policy is a flow; the policy gradient goes jointly through its ODE integration and through the
dynamics. Two flow-matching regularizers keep it stable (towards its own recent actions) and exploring
(towards uniform actions).
"""

from dataclasses import dataclass
from typing import Literal

from brax.envs import Env

from rpgjax.agents.agent import Agent
from rpgjax.agents.flow_regularizers import (
    FlowConfig,
    decisions,
    flow_regularizers,
    no_decisions,
)
from rpgjax.agents.short_horizon import Variant, short_horizon, training_episodes
from rpgjax.policies import VelocityField, chunked, flow, velocity_field
from rpgjax.types import Count, Share


@dataclass(frozen=True)
class RFOConfig(FlowConfig):
    """RFO's settings. The lambda-mixed objective and the minimum are ours."""

    actor_lambda: Share = 0.95
    actor_value: Literal["mean", "min"] = "min"  # the public port has "mean": falls more often
    chunk_length: Count = 1  # actions decided at once, executed open loop


def rfo(env: Env, config: RFOConfig = RFOConfig(), field: VelocityField | None = None) -> Agent:
    """A flow policy on the window's return, with both regularizers.

    Args:
        env: the task.
        config: the settings.
        field: a velocity field of your own over `chunk_length * action` dimensions, in place of the
            network that `config` describes.

    Raises:
        ValueError: static fields that cannot work together.
    """
    world = training_episodes(env, config)
    size = world.action_size * config.chunk_length
    field = field or velocity_field(
        world.observation_size, size, config.actor_hidden, config.activation
    )
    head = flow(
        field,
        size,
        config.flow_steps,
        config.flow_solver,
        rematerialise=config.flow_rematerialise,
    )

    regularizers = flow_regularizers(field, size, config)
    variant = Variant(
        head=chunked(head, config.chunk_length),
        init_memory=lambda window, key: no_decisions(window),
        reward=lambda memory, view: view.window.reward,
        penalty=lambda actor, previous, view, returns, key: regularizers(
            actor, previous, view, key
        ),
        update_memory=lambda previous, view: (decisions(view.window), {}),
        value_inputs=world.observation_size,
    )
    return short_horizon(world, config, variant)
