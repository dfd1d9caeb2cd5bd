"""How RPG learns: its world model and critic from segments, its policy from imagined rollouts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rpgjax.agents.agent import descend, nonfinite_fraction
from rpgjax.agents.exploration import distil
from rpgjax.agents.rpg_config import RPGConfig
from rpgjax.agents.rpg_parts import (
    Learner,
    Parts,
    Segment,
    before_the_end,
    encode,
    imagined,
)
from rpgjax.envs.episodes import EpisodeState
from rpgjax.models.world_model import ModelState
from rpgjax.objectives.bound import Weights, k_step_value, step_terms
from rpgjax.objectives.novelty import intrinsic_reward
from rpgjax.policies.latent import Latent
from rpgjax.rollout import RolloutState, Transition, unroll
from rpgjax.types import Array, Key, Metrics, Params


class Imagination(NamedTuple):
    """A window imagined from states of replay, and what it is valued with, (H, B)."""

    window: Transition
    log_posterior: Array  # log p_phi(z | s_t, a_t)
    next_value: Array  # (2, H, B), V(s_{t+1}, z) of each critic
    survival: Array | None  # the chance that the episode goes on from s_{t+1}


def learn_model(
    parts: Parts, config: RPGConfig, learner: Learner, segment: Segment, updates: Array, key: Key
) -> tuple[Learner, Metrics]:
    """One step of model and critic, and one of novelty's network."""
    tells = before_the_end(segment.ended) & segment.finite
    mask = tells.astype(segment.reward.dtype)
    reward, metrics = config.reward_scale * segment.reward, {}
    if parts.novelty is not None:
        counted = updates >= config.novelty_after
        learner, unknown = learn_novelty(parts, learner, segment.next_observation, counted)
        extra = intrinsic_reward(learner.explorer.spread, unknown)
        reward = reward + config.novelty_scale * extra
        metrics["train/novelty"] = jnp.mean(extra)
    reached = encode(parts, learner.target, segment.next_observation)
    targets = value_targets(parts, config, learner, reached, segment, key)
    gradient, errors = jax.grad(model_loss, argnums=2, has_aux=True)(
        parts, config, learner.model, segment, mask, reward, reached.obs, targets
    )
    model, state, norm = descend(
        parts.optimizer, gradient, learner.model, learner.optimizers["model"]
    )
    learner = learner._replace(model=model, optimizers=learner.optimizers | {"model": state})
    return learner, metrics | errors | {"train/grad_norm": norm}


def learn_novelty(
    parts: Parts, learner: Learner, reached: Array, counted: Array
) -> tuple[Learner, Array]:
    """One step of novelty's network; returns its errors at observations (H, B, obs), before it.

    It learns from the first of each segment, B observations, drawn as the batch was; the others are there
    to be paid for.
    """
    explorer = learner.explorer
    others = jax.vmap(jax.vmap(lambda o: parts.novelty.error(explorer.params, o)))(reached[1:])
    explorer, first = distil(parts.novelty, parts.optimizer, explorer, reached[0], counted)
    return learner._replace(explorer=explorer), jnp.concatenate([first[None], others])


def learn_policy(
    parts: Parts, config: RPGConfig, learner: Learner, segment: Segment, key: Key
) -> tuple[Learner, Metrics]:
    """One step of policy, temperature, latent encoder and Q_z; the target network follows."""
    start, z = encode(parts, learner.model, segment.observation[0]), segment.latent[0]
    alpha = config.action_entropy * jnp.exp(learner.log_alpha)
    dream_key, penalty_key = jax.random.split(key)

    def loss(actor: Params, probe: Array) -> tuple[Array, tuple[Transition, Array, Metrics]]:
        networks = learner.model, learner.encoder, actor
        dream = imagine(parts, config, *networks, start, z, dream_key, probe)
        values = bound_value(config, dream, alpha)
        penalty, metrics = parts.penalty(actor["head"], dream.window, penalty_key)
        # One critic's word: the lower of two shuns what is new, where they differ most.
        return penalty - jnp.mean(values[0]), (dream.window, values.min(axis=0), metrics)

    (gradient, probed), aux = jax.grad(loss, argnums=(0, 1), has_aux=True)(
        learner.actor, jnp.zeros(z.shape[0])
    )
    window, value, metrics = jax.lax.stop_gradient(aux)

    # `objectives.entropy.temperature_loss`, summed in another order: recorded runs repeat digit for digit.
    def temperature(log_alpha: Array, entropy: Array) -> Array:
        return config.action_entropy * jnp.exp(log_alpha) * (entropy + parts.action_size)

    def unlikely(encoder: Params) -> Array:
        return -jnp.mean(log_posterior(parts, encoder, window))

    def misjudged(prior: Params) -> Array:
        """Q_z(s)[z] against what acting on z from s is worth: soft Q over z."""
        judged = jax.vmap(lambda s, z: parts.prior.worth(prior, s, z))(start.obs, z)
        return jnp.mean((judged - value) ** 2)

    missed, encoder_gradient = jax.value_and_grad(unlikely)(learner.encoder)
    steps = {
        "actor": (gradient, learner.actor),
        "encoder": (encoder_gradient, learner.encoder),
    }
    if window.log_prob is not None:  # a flow has no density, and nothing to weigh
        entropy = -jnp.mean(window.log_prob)
        steps["alpha"] = (jax.grad(temperature)(learner.log_alpha, entropy), learner.log_alpha)
        metrics |= {"train/entropy": entropy, "train/temperature": alpha}
    if parts.prior.worth is not None:
        prior = learner.actor["prior"]
        steps["prior"] = (jax.grad(misjudged)(prior), prior)
    new = {
        name: descend(parts.optimizer, pull, params, learner.optimizers[name])
        for name, (pull, params) in steps.items()
    }
    actor, _, norm = new["actor"]
    if "prior" in new:
        actor |= {"prior": new["prior"][0]}
    learner = learner._replace(
        actor=actor,
        log_alpha=new["alpha"][0] if "alpha" in new else learner.log_alpha,
        encoder=new["encoder"][0],
        target=optax.incremental_update(learner.model, learner.target, 1.0 - config.target_keep),
        optimizers=learner.optimizers | {name: state for name, (_, state, _) in new.items()},
    )
    broken = nonfinite_fraction(probed, window.finite)
    return learner, metrics | {
        "train/log_posterior": -missed,
        "train/policy_grad_norm": norm,
        "train/nonfinite_fraction": jnp.where(jnp.isfinite(norm), broken, 1.0),
    }


def imagine(
    parts: Parts,
    config: RPGConfig,
    model: Params,
    encoder: Params,
    actor: Params,
    start: ModelState,
    z: Array,
    key: Key,
    probe: Array | None = None,
) -> Imagination:
    """A window (H, B, ...) imagined from states (B, ...) under latents z (B, z) that are held.

    `model` is `Learner.model` or `.target`: the states that it encoded, its dynamics and its critics.
    All of it is differentiable in `actor`; `probe` (B,) counts where that breaks (`rollout.guard`).
    """
    world = imagined(parts.model, model["world"], parts.action_size)
    rollout = RolloutState(
        EpisodeState(start, jnp.zeros(z.shape[0], jnp.int32)), Latent(z, ()), bank=()
    )
    _, window = unroll(
        parts.head, world, actor, lambda s: s, rollout, key, config.horizon, probe, unrolled=True
    )
    following = jnp.concatenate([window.next_observation, window.latent], axis=-1)
    survival = None
    if config.survival:
        logits = survival_logits(parts, model, window.next_observation)
        survival = jax.nn.sigmoid(logits)
    return Imagination(
        window=window,
        log_posterior=log_posterior(parts, encoder, window),
        next_value=parts.critic(model["critic"], following),
        survival=survival,
    )


def survival_logits(parts: Parts, model: Params, states: Array) -> Array:
    """Of states (H, B, size) that were reached, (H, B)."""
    return jax.vmap(jax.vmap(lambda s: parts.model.survival(model["world"], s)))(states)


def log_posterior(parts: Parts, encoder: Params, window: Transition) -> Array:
    """log p_phi(z | s_t, a_t), (H, B)."""
    each = jax.vmap(jax.vmap(lambda z, s, a: parts.posterior.log_prob(encoder, z, s, a)))
    return each(window.latent, window.observation, window.action)


def bound_value(config: RPGConfig, dream: Imagination, alpha: Array | float) -> Array:
    """The K-step value (2, B) of what was imagined, by each critic; `alpha` weighs the entropy."""
    window = dream.window
    weights = Weights(1.0, alpha, 0.0, config.information)
    nothing = jnp.zeros_like(window.reward)
    bonus = step_terms(weights, nothing, window.log_prob, dream.log_posterior)
    return jax.vmap(
        lambda v: k_step_value(window.reward, bonus, v, config.discount, survival=dream.survival)
    )(dream.next_value)


def value_targets(
    parts: Parts,
    config: RPGConfig,
    learner: Learner,
    reached: ModelState,
    segment: Segment,
    key: Key,
) -> Array:
    """What V(s_{t+1}, z) is to be, (H, B): imagined on from there, without entropies, the lower one.

    All of it is the target network's, but the policy and the latent encoder. Nothing, where the task
    ended there and survival is learned.
    """
    shape = segment.reward.shape
    flat = jax.tree.map(
        lambda x: x.reshape(shape[0] * shape[1], x.shape[-1]), (reached, segment.latent)
    )
    dream = imagine(parts, config, learner.target, learner.encoder, learner.actor, *flat, key)
    value = bound_value(config, dream, 0.0).min(axis=0).reshape(shape)
    if config.survival:
        value = jnp.where(segment.terminated, 0.0, value)
    return jax.lax.stop_gradient(value)


def model_loss(
    parts: Parts,
    config: RPGConfig,
    params: Params,
    segment: Segment,
    mask: Array,
    reward: Array,
    states: Array,
    targets: Array,
) -> tuple[Array, Metrics]:
    """State, reward, value and survival after each step, along the model's own rollout from the start.

    Args:
        parts: the networks.
        config: the weights.
        params: of model and critic.
        segment: (H, B, ...).
        mask: (H, B), 0 where the segment is another episode's, or its dynamics broke.
        reward: (H, B), novelty in it.
        states: (H, B, size), the target encoder's s_{t+1}.
        targets: (H, B), of V(s_{t+1}, z).
    """

    first = encode(parts, params, segment.observation[0])
    reached = jax.vmap(
        lambda state, actions: parts.model.follow(params["world"], state, actions),
        in_axes=(0, 1),
        out_axes=1,
    )(first, segment.action)
    seen = jnp.concatenate([reached.state.obs, segment.latent], axis=-1)
    errors = {
        "state": jnp.mean((reached.state.obs - states) ** 2, axis=-1),
        "reward": (reached.reward - reward) ** 2,
        "value": jnp.sum((parts.critic(params["critic"], seen) - targets[None]) ** 2, axis=0),
    }
    if config.survival:
        logits = survival_logits(parts, params, reached.state.obs)
        errors["survival"] = optax.sigmoid_binary_cross_entropy(
            logits, 1.0 - segment.terminated.astype(logits.dtype)
        )
    means = {name: jnp.mean(mask * error) for name, error in errors.items()}
    loss = (
        config.state_weight * means["state"]
        + config.reward_weight * means["reward"]
        + config.value_weight * means["value"]
        + means.get("survival", 0.0)
    )
    return loss, {f"train/model_{name}": mean for name, mean in means.items()}
