"""The two flow-matching regularizers that keep a flow policy stable and exploring (Zhong et al., 2026)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rpgjax.agents.config import ShortHorizonConfig
from rpgjax.agents.short_horizon import View
from rpgjax.objectives.flow_matching import mean_flow_matching, uniform_targets
from rpgjax.policies import VelocityField
from rpgjax.rollout import Transition
from rpgjax.types import Array, Count, Key, Limits, Metrics, NonNegative, Params, Share, Traced

Margin = Annotated[Traced, Limits(1e-6, 0.5)]  # to the ends of [-1, 1], where atanh is infinite


@dataclass(frozen=True)
class FlowConfig(ShortHorizonConfig):
    """A flow head's settings, and how much of both regularizers. Their annealing is ours."""

    flow_steps: Count = 4  # K
    flow_solver: Literal["euler", "midpoint", "heun"] = "euler"
    flow_rematerialise: bool = False
    c_past: NonNegative = 0.2  # weight of the stability term L_past
    c_uniform: NonNegative = 0.2  # weight of the exploration term L_uni
    regularizer_floor: Share = 0.05  # fraction of both weights that stays; 1 in the paper
    regularizer_decay_steps: Count = 1_200_000  # environment steps of linear decay
    uniform_margin: Margin = 1e-3  # how far uniform targets stay from the action bounds


class Decisions(NamedTuple):
    """What the policy decided in a window: the targets of L_past."""

    observation: Array  # (T, B, obs) raw: normalised anew with today's statistics
    latent: Array | None  # (T, B, z), where the policy has one
    target: Array  # (T, B, decision) before tanh, as stored: never inverted from the action
    weight: Array  # (T, B), 1 where a decision was made


def decisions(window: Transition) -> Decisions:
    """The observations and the pre-tanh outputs of a window's decisions; no gradient flows into them."""
    weight = (window.is_decision & window.finite).astype(window.reward.dtype)
    return Decisions(
        *jax.lax.stop_gradient((window.observation, window.latent, window.decision, weight))
    )


def no_decisions(window: Transition) -> Decisions:
    """Of a window's shape, with no weight."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(decisions, window))


def flow_regularizers(
    field: VelocityField, size: int, config: FlowConfig
) -> Callable[[Params, Decisions, View, Key], tuple[Array, Metrics]]:
    """c_past L_past + c_uniform L_uni, annealed: of the field's parameters and the last window's decisions.

    L_past matches the flow to what was decided in this and the last window, L_uni to uniform actions at
    this window's states.

    Args:
        field: the velocity field on [s, x, u], or [s, z, x, u] where the policy has a latent.
        size: width of a decision.
        config: the weights.
    """

    def matching(params: Params, decided: Decisions, view: View, key: Key) -> Array:
        """Mean flow-matching loss over the decisions."""
        seen = view.normalise(decided.observation)
        if decided.latent is not None:
            seen = jnp.concatenate([seen, decided.latent], axis=-1)
        velocity = partial(field.apply, params)
        return mean_flow_matching(velocity, seen, decided.target, decided.weight, key)

    def regularizers(
        params: Params, previous: Decisions, view: View, key: Key
    ) -> tuple[Array, Metrics]:
        past_key, uniform_key, target_key = jax.random.split(key, 3)
        current = decisions(view.window)
        past = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), previous, current)
        l_past = matching(params, past, view, past_key)

        uniform = uniform_targets(target_key, current.weight.shape, size, config.uniform_margin)
        l_uniform = matching(params, current._replace(target=uniform), view, uniform_key)

        progress = jnp.minimum(view.env_steps / config.regularizer_decay_steps, 1.0)
        anneal = 1.0 + progress * (config.regularizer_floor - 1.0)
        metrics = {"train/l_past": l_past, "train/l_uniform": l_uniform, "train/anneal": anneal}
        return anneal * (config.c_past * l_past + config.c_uniform * l_uniform), metrics

    return regularizers
