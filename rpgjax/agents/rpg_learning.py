"""How RPG learns: its world model and critic from segments, its policy from imagined rollouts."""

import jax
import jax.numpy as jnp
import optax

from rpgjax.agents.agent import descend
from rpgjax.agents.rpg_parts import (
    Learner,
    Parts,
    RPGConfig,
    Segment,
    before_the_end,
    encode,
    imagined,
)
from rpgjax.envs.episodes import EpisodeState
from rpgjax.models.world_model import Imagined, ModelState
from rpgjax.objectives.bound import Weights, k_step_value, step_terms
from rpgjax.objectives.novelty import intrinsic_reward, widen
from rpgjax.policies.latent import Latent
from rpgjax.rollout import RolloutState, Transition, unroll
from rpgjax.types import Array, Key, Metrics, Params


def learn_model(
    parts: Parts, config: RPGConfig, learner: Learner, segment: Segment, updates: Array, key: Key
) -> tuple[Learner, Metrics]:
    """One step of model and critic, and one of novelty's network."""
    mask = before_the_end(segment.ended).astype(segment.reward.dtype)
    errors = surprise(parts, learner.novelty, segment)
    extra = jnp.where(
        updates >= config.novelty_after, intrinsic_reward(learner.spread, errors), 0.0
    )
    reward = config.reward_scale * segment.reward + config.novelty_scale * extra
    reached = encode(parts, learner.target, segment.next_observation)
    targets = value_targets(parts, config, learner, reached, segment.latent, key)
    gradient, metrics = jax.grad(model_loss, argnums=2, has_aux=True)(
        parts, config, learner.model, segment, mask, reward, reached.obs, targets
    )
    model, state, norm = descend(
        parts.optimizer, gradient, learner.model, learner.optimizers["model"]
    )
    pull = jax.grad(
        lambda learned: jnp.mean(surprise(parts, learner.novelty | {"learned": learned}, segment))
    )(learner.novelty["learned"])
    learned, novelty_state, _ = descend(
        parts.optimizer, pull, learner.novelty["learned"], learner.optimizers["novelty"]
    )
    learner = learner._replace(
        model=model,
        novelty=learner.novelty | {"learned": learned},
        spread=widen(learner.spread, errors.reshape(-1)),
        optimizers=learner.optimizers | {"model": state, "novelty": novelty_state},
    )
    return learner, metrics | {"train/grad_norm": norm, "train/novelty": jnp.mean(extra)}


def learn_policy(
    parts: Parts, config: RPGConfig, learner: Learner, segment: Segment, key: Key
) -> tuple[Learner, Metrics]:
    """One step of policy, temperature and latent encoder; the target network follows."""
    start = encode(parts, learner.model, segment.observation[0])
    alpha = config.action_entropy * jnp.exp(learner.log_alpha)

    def loss(actor: Params) -> tuple[Array, Transition]:
        window, likelihood, following = imagine(
            parts, config, learner, actor, start, segment.latent[0], key
        )
        value = bound_value(config, window, likelihood, following, alpha).min(axis=0)
        return -jnp.mean(value), window

    gradient, window = jax.grad(loss, has_aux=True)(learner.actor)
    window = jax.lax.stop_gradient(window)
    entropy = -jnp.mean(window.log_prob)

    def temperature(log_alpha: Array) -> Array:
        return config.action_entropy * jnp.exp(log_alpha) * (entropy + parts.action_size)

    def unlikely(encoder: Params) -> Array:
        return -jnp.mean(log_posterior(parts, encoder, window))

    missed, encoder_gradient = jax.value_and_grad(unlikely)(learner.encoder)
    steps = {
        "actor": (gradient, learner.actor),
        "alpha": (jax.grad(temperature)(learner.log_alpha), learner.log_alpha),
        "encoder": (encoder_gradient, learner.encoder),
    }
    new = {
        name: descend(parts.optimizer, pull, params, learner.optimizers[name])
        for name, (pull, params) in steps.items()
    }
    learner = learner._replace(
        actor=new["actor"][0],
        log_alpha=new["alpha"][0],
        encoder=new["encoder"][0],
        target=optax.incremental_update(learner.model, learner.target, 1.0 - config.target_keep),
        optimizers=learner.optimizers | {name: state for name, (_, state, _) in new.items()},
    )
    return learner, {
        "train/entropy": entropy,
        "train/temperature": alpha,
        "train/log_posterior": -missed,
    }


def imagine(
    parts: Parts,
    config: RPGConfig,
    learner: Learner,
    actor: Params,
    start: ModelState,
    z: Array,
    key: Key,
) -> tuple[Transition, Array, Array]:
    """A window (H, B, ...) imagined from states (B, ...) under latents z (B, z) that are held.

    Returns:
        The window, log p_phi(z | s_t, a_t) (H, B), and the target critic's V(s_{t+1}, z) (2, H, B). All
        are differentiable in `actor`.
    """
    world = imagined(parts.model, learner.model["world"], parts.action_size)
    rollout = RolloutState(
        EpisodeState(start, jnp.zeros(z.shape[0], jnp.int32)), Latent(z, ()), bank=()
    )
    _, window = unroll(parts.head, world, actor, lambda s: s, rollout, key, config.horizon)
    likelihood = log_posterior(parts, learner.encoder, window)
    following = jnp.concatenate([window.next_observation, window.latent], axis=-1)
    return window, likelihood, parts.critic(learner.target["critic"], following)


def log_posterior(parts: Parts, encoder: Params, window: Transition) -> Array:
    """log p_phi(z | s_t, a_t), (H, B)."""
    each = jax.vmap(jax.vmap(lambda z, s, a: parts.posterior.log_prob(encoder, z, s, a)))
    return each(window.latent, window.observation, window.action)


def bound_value(
    config: RPGConfig,
    window: Transition,
    likelihood: Array,
    following: Array,
    alpha: Array | float,
) -> Array:
    """The K-step value (2, B) of an imagined window, by each critic."""
    weights = Weights(1.0, alpha, 0.0, config.information)
    bonus = step_terms(weights, jnp.zeros_like(window.reward), window.log_prob, likelihood)
    return jax.vmap(lambda v: k_step_value(window.reward, bonus, v, config.discount))(following)


def value_targets(
    parts: Parts, config: RPGConfig, learner: Learner, reached: ModelState, z: Array, key: Key
) -> Array:
    """What V(s_{t+1}, z) is to be, (H, B): imagined on from there, without entropies, the lower one."""
    count = z.shape[0] * z.shape[1]
    flat = jax.tree.map(lambda x: x.reshape(count, x.shape[-1]), (reached, z))
    window, likelihood, following = imagine(parts, config, learner, learner.actor, *flat, key)
    value = bound_value(config, window, likelihood, following, 0.0).min(axis=0)
    return jax.lax.stop_gradient(value.reshape(z.shape[:2]))


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
    """State, reward and value after each step of a segment, along the model's own rollout from its start.

    Args:
        parts: the networks.
        config: the weights.
        params: of model and critic.
        segment: (H, B, ...).
        mask: (H, B), 0 where the segment is another episode's.
        reward: (H, B), novelty in it.
        states: (H, B, size), the target encoder's s_{t+1}.
        targets: (H, B), of V(s_{t+1}, z).
    """

    def step(state: ModelState, action: Array) -> tuple[ModelState, Imagined]:
        reached = jax.vmap(lambda s, a: parts.model.step(params["world"], s, a))(state, action)
        return reached.state, reached

    first = encode(parts, params, segment.observation[0])
    _, reached = jax.lax.scan(step, first, segment.action)
    seen = jnp.concatenate([reached.state.obs, segment.latent], axis=-1)
    errors = {
        "state": jnp.mean((reached.state.obs - states) ** 2, axis=-1),
        "reward": (reached.reward - reward) ** 2,
        "value": jnp.sum((parts.critic(params["critic"], seen) - targets[None]) ** 2, axis=0),
    }
    means = {name: jnp.mean(mask * error) for name, error in errors.items()}
    loss = (
        config.state_weight * means["state"]
        + config.reward_weight * means["reward"]
        + config.value_weight * means["value"]
    )
    return loss, {f"train/model_{name}": mean for name, mean in means.items()}


def surprise(parts: Parts, novelty: Params, segment: Segment) -> Array:
    """Novelty's error at what each step reached, (H, B)."""
    each = jax.vmap(jax.vmap(lambda o: parts.novelty.error(novelty, o)))
    return each(segment.next_observation)
