"""The policies that RPG can train in its world model: a Gaussian, or RFO's flow; both told z."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rpgjax.agents.rpg_config import RPGConfig
from rpgjax.objectives.flow_matching import mean_flow_matching, uniform_targets
from rpgjax.policies import PolicyHead, flow, gaussian, velocity_field
from rpgjax.rollout import Transition
from rpgjax.types import Array, Key, Metrics, Params


class TrainedHead(NamedTuple):
    """A head on [s, z], and what its loss has besides the bound."""

    head: PolicyHead
    penalty: Callable[[Params, Transition, Key], tuple[Array, Metrics]]  # of an imagined window


def gaussian_head(inputs: int, action_size: int, config: RPGConfig) -> TrainedHead:
    """The paper's tanh-Gaussian: its entropy stands in the bound, so there is no penalty."""
    head = gaussian(
        inputs,
        action_size,
        config.hidden,
        config.activation,
        state_dependent_std=True,
        log_std_init=config.log_std_init,
        layer_norm=False,
    )
    return unpenalised(head)


def unpenalised(head: PolicyHead) -> TrainedHead:
    """A head whose loss has nothing besides the bound: the Gaussian, and any head of one's own."""
    return TrainedHead(head, lambda params, window, key: (jnp.float32(0.0), {}))


def flow_head(inputs: int, action_size: int, config: RPGConfig) -> TrainedHead:
    """RFO's flow, whose bound has no entropy of the action, with RFO's two regularizers.

    L_past matches the flow to what it decides in imagination, L_uni to uniform actions in the same states.
    """
    field = velocity_field(inputs, action_size, config.hidden, config.activation)
    head = flow(field, action_size, config.flow_steps)

    def penalty(params: Params, window: Transition, key: Key) -> tuple[Array, Metrics]:
        past_key, uniform_key, target_key = jax.random.split(key, 3)
        seen, weight = jax.lax.stop_gradient(
            (
                jnp.concatenate([window.observation, window.latent], axis=-1),
                window.finite.astype(window.reward.dtype),
            )
        )

        def matching(target: Array, key: Key) -> Array:
            return mean_flow_matching(partial(field.apply, params), seen, target, weight, key)

        l_past = matching(window.decision, past_key)
        l_uniform = matching(uniform_targets(target_key, weight.shape, action_size), uniform_key)
        metrics = {"train/l_past": l_past, "train/l_uniform": l_uniform}
        return config.c_past * l_past + config.c_uniform * l_uniform, metrics

    return TrainedHead(head, penalty)


HEADS = {"gaussian": gaussian_head, "flow": flow_head}
