"""RFO: Reparameterization Flow Policy Optimization (Zhong et al., 2026).

The policy is a flow; the policy gradient goes jointly through its ODE integration and through the
dynamics. Two flow-matching regularizers keep it stable (towards its own recent actions) and exploring
(towards uniform actions).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from brax.envs import Env

from rpgjax.agents.agent import Agent
from rpgjax.agents.config import ShortHorizonConfig
from rpgjax.agents.short_horizon import Variant, short_horizon
from rpgjax.envs.episodes import episodes
from rpgjax.objectives.flow_matching import flow_matching_loss, uniform_target
from rpgjax.policies import VelocityField, chunked, flow, velocity_field
from rpgjax.rollout import Normalise, Transition
from rpgjax.types import Array, Key, Metrics, Params, Traced


@dataclass(frozen=True)
class RFOConfig(ShortHorizonConfig):
    """RFO's settings. The annealing, the lambda-mixed objective and the minimum are ours."""

    actor_lambda: Traced = 0.95
    actor_value: Literal["mean", "min"] = "min"  # the public port has "mean": falls more often
    flow_steps: int = 4  # K
    flow_solver: str = "euler"  # or "midpoint", "heun"
    flow_rematerialise: bool = False
    chunk_length: int = 1  # actions decided at once, executed open loop
    c_past: Traced = 0.2  # weight of the stability term L_past
    c_uniform: Traced = 0.2  # weight of the exploration term L_uni
    regularizer_floor: Traced = (
        0.05  # fraction of both weights that stays; 1: constant, as in the paper
    )
    regularizer_decay_steps: int = 1_200_000  # environment steps of linear decay
    uniform_margin: Traced = 1e-3  # how far uniform targets stay from the action bounds


class Decisions(NamedTuple):
    """What the policy decided in a window: the targets of L_past."""

    observation: Array  # (T, B, obs) raw: normalised anew with today's statistics
    target: Array  # (T, B, decision) before tanh, as stored: never inverted from the action
    weight: Array  # (T, B), 1 where a decision was made


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
    world = episodes(env, config.episode_length, config.bank_size)
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

    def matching(actor: Params, decisions: Decisions, normalise: Normalise, key: Key) -> Array:
        """Mean flow-matching loss over the decisions."""
        keys = jax.random.split(key, decisions.weight.shape)

        def one(observation: Array, target: Array, key: Key) -> Array:
            return flow_matching_loss(
                lambda x, u: field.apply(actor, normalise(observation), x, u), target, key
            )

        losses = jax.vmap(jax.vmap(one))(decisions.observation, decisions.target, keys)
        return jnp.sum(losses * decisions.weight) / jnp.maximum(jnp.sum(decisions.weight), 1.0)

    def regularizers(
        actor: Params,
        previous: Decisions,
        window: Transition,
        normalise: Normalise,
        env_steps: Array,
        key: Key,
    ) -> tuple[Array, Metrics]:
        past_key, uniform_key, target_key = jax.random.split(key, 3)
        current = decisions(window)
        past = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), previous, current)
        l_past = matching(actor, past, normalise, past_key)

        target_keys = jax.random.split(target_key, current.weight.shape)
        uniform = jax.vmap(jax.vmap(lambda k: uniform_target(k, size, config.uniform_margin)))
        l_uniform = matching(
            actor, current._replace(target=uniform(target_keys)), normalise, uniform_key
        )

        progress = jnp.minimum(env_steps / config.regularizer_decay_steps, 1.0)
        anneal = 1.0 + progress * (config.regularizer_floor - 1.0)
        metrics = {"train/l_past": l_past, "train/l_uniform": l_uniform, "train/anneal": anneal}
        return anneal * (config.c_past * l_past + config.c_uniform * l_uniform), metrics

    variant = Variant(
        head=chunked(head, config.chunk_length),
        init_memory=lambda window: jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(decisions, window)
        ),
        reward=lambda memory, window: window.reward,
        penalty=regularizers,
        update_memory=lambda previous, window: decisions(window),
    )
    return short_horizon(world, config, variant)


def decisions(window: Transition) -> Decisions:
    """The observations and the pre-tanh outputs of a window's decisions; no gradient flows into them."""
    weight = (window.is_decision & window.finite).astype(window.reward.dtype)
    return Decisions(*jax.lax.stop_gradient((window.observation, window.decision, weight)))
