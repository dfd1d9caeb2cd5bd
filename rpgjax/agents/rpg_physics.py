"""RPG through the simulator: a policy with a latent, trained on the variational bound by physics' gradient.

Reparameterized Policy Learning (Huang et al., ICML 2023) maximises, over pi(z | s_1) and pi(a | s, z),

    -alpha_z log pi(z | s_1)
    + sum_t gamma^t ( R_t / T - alpha log pi(a_t | s_t, z) + beta log p_phi(z | s_t, a_t) )

through a learned model. Here the gradient of the sum goes through the dynamics themselves, over short
windows that a critic V(s, z) continues; that of pi(z | s_1), where z is discrete, is a score function's.
The latent encoder p_phi is fitted to what the policy does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from brax.envs import Env

from rpgjax.agents.agent import Agent, Posterior, descend, normaliser
from rpgjax.agents.exploration import Explorer, distil, no_explorer
from rpgjax.agents.flow_regularizers import (
    Decisions,
    FlowConfig,
    decisions,
    flow_regularizers,
    no_decisions,
)
from rpgjax.agents.short_horizon import (
    ShortHorizonState,
    Variant,
    View,
    short_horizon,
    training_episodes,
)
from rpgjax.envs.episodes import Episodes
from rpgjax.envs.object_centric import places, waves
from rpgjax.models.latent_encoder import categorical_encoder, gaussian_encoder
from rpgjax.models.networks import critic_network
from rpgjax.objectives.bound import Weights, score_function, step_terms
from rpgjax.objectives.novelty import intrinsic_reward, random_network
from rpgjax.policies import PolicyHead, flow, gaussian, velocity_field
from rpgjax.policies.latent import LEAST_ALPHA_Z, by_value, categorical, latent, standard_normal
from rpgjax.rollout import Normalise, Transition
from rpgjax.types import (
    Array,
    Count,
    Key,
    Metrics,
    NonNegative,
    Number,
    Params,
    Positive,
    Share,
    Traced,
    known_to_be,
)


@dataclass(frozen=True)
class RPGPhysicsConfig(FlowConfig):
    """The bound's weights, the latent's kind and size, and the head; RFO's settings where that is a flow.

    The bound's weights fall linearly where their floor is below one.
    """

    head: Literal["gaussian", "flow"] = "gaussian"
    latent: Literal["continuous", "discrete"] = "continuous"
    latent_size: Number = 12
    latent_choice: Literal["score", "soft_q"] = "score"  # how pi(z | s_1) learns, of a discrete z
    information_about: Literal["behaviour", "objects"] = "behaviour"  # what p_phi sees: s and a, or
    # only the features of the objects' coordinates, of a task that has them (envs.object_centric)
    encoder_hidden: tuple[Count, ...] = (256, 256)
    encoder_learning_rate: NonNegative = 3e-4
    encoder_steps: Count = 1  # of maximum likelihood in an update
    temperature: Positive = 1.0  # T: rewards are divided by it
    action_entropy: NonNegative = 0.01  # alpha
    latent_entropy: NonNegative = 0.01  # alpha_z
    information: NonNegative = 0.01  # beta
    action_entropy_floor: Share = 1.0  # fraction of alpha that stays; 1: constant
    latent_entropy_floor: Share = 1.0  # of alpha_z
    information_floor: Share = 1.0  # of beta
    novelty_scale: NonNegative = 0.0  # of what a step reaches, beside the reward; 0: none
    novelty_floor: Share = 1.0  # of it
    weights_decay_steps: Count = 1_000_000  # environment steps of linear decay of the four
    novelty_after: Number = 100  # steps of its network until errors count, and novelty pays
    novelty_width: Count = 256
    novelty_learning_rate: NonNegative = 3e-4
    log_std_init: Traced = -1.0
    # Of waves of the objects' places, which critics, novelty and p_phi of objects see beside them; 0: none.
    object_frequencies: Number = 0


class Learner(NamedTuple):
    """p_phi as it stands, a flow's last decisions, and what is no longer new."""

    params: Params
    optimizer: optax.OptState
    decisions: Decisions
    explorer: Explorer | None


def rpg_physics(
    env: Env, config: RPGPhysicsConfig = RPGPhysicsConfig(), head: PolicyHead | None = None
) -> Agent:
    """A latent-conditioned Gaussian or flow on the variational bound, through the dynamics.

    A flow has no density: its bound is without the action's entropy, and RFO's regularizers, told z,
    keep it exploring.

    Args:
        env: the task.
        config: the settings.
        head: a policy head of your own on [s, z] (observation_size + latent_size,), in place of the one
            that `config` describes.

    Raises:
        ValueError: static fields that cannot work together.
    """
    world = training_episodes(env, config)
    seen, size = world.observation_size, config.latent_size
    watch, watched = sharply(env, config.object_frequencies)
    values = seen + watched + size
    prior = standard_normal(size)
    soft_q = config.latent == "discrete" and config.latent_choice == "soft_q"
    if soft_q:
        init_value, value = critic_network(
            values, config.critic_hidden, config.activation, config.critics
        )
        prior = by_value(size, init_value, lambda params, s, z: value(params, judged(s, z)))
    elif config.latent == "discrete":
        prior = categorical(size, seen)
    regularizers = unregularized
    if head is None:
        head, regularizers = HEADS[config.head](seen + size, world.action_size, config)
    make_encoder = categorical_encoder if config.latent == "discrete" else gaussian_encoder
    evidence, *widths = EVIDENCE[config.information_about](env, world, watch, watched)
    encoder = make_encoder(size, *widths, config.encoder_hidden)
    encoder_optimizer = optax.adam(config.encoder_learning_rate)
    explores = not known_to_be(config.novelty_scale, 0.0)
    features = getattr(env, "object_features", seen)  # with objects, they alone can be new
    novelty = random_network(features + watched, config.novelty_width)
    novelty_optimizer = optax.adam(config.novelty_learning_rate)

    def judged(observation: Array, z: Array) -> Array:
        """What V sees, (..., values), of normalised observations (..., obs) and latents (..., z)."""
        return jnp.concatenate([watch(observation), z], axis=-1)

    def falling(weight: Array | float, floor: Array | float, view: View) -> Array:
        left = optax.linear_schedule(1.0, floor, config.weights_decay_steps)
        return left(view.env_steps) * weight

    def weights(view: View) -> Weights:
        return Weights(
            config.temperature,
            falling(config.action_entropy, config.action_entropy_floor, view),
            falling(config.latent_entropy, config.latent_entropy_floor, view),
            falling(config.information, config.information_floor, view),
        )

    def log_posterior(params: Params, view: View) -> Array:
        """log p_phi(z | s_t, a_t), (T, B)."""
        window = view.window
        seen = evidence(window.observation, window.action, view.normalise)
        return jax.vmap(jax.vmap(partial(encoder.log_prob, params)))(window.latent, *seen)

    def init_memory(window: Transition, key: Key) -> Learner:
        params, state = encoder.init(key), None
        if explores:
            state = no_explorer(novelty, novelty_optimizer, jax.random.fold_in(key, 1))
        return Learner(params, encoder_optimizer.init(params), no_decisions(window), state)

    def new(observation: Array) -> Array:
        """What novelty sees of observations (..., obs): of a task with objects, where these are."""
        return watch(observation[..., -features:])

    def bound(memory: Learner, view: View) -> Array:
        window, explorer = view.window, memory.explorer
        reward = window.reward
        if explorer is not None:
            error = jax.vmap(jax.vmap(partial(novelty.error, explorer.params)))
            errors = error(new(window.next_observation))
            scale = falling(config.novelty_scale, config.novelty_floor, view)
            reward = reward + scale * intrinsic_reward(explorer.spread, errors)
        posterior = log_posterior(memory.params, view)
        return step_terms(weights(view), reward, window.log_prob, posterior)

    def explore(explorer: Explorer | None, view: View) -> tuple[Explorer | None, Metrics]:
        """A step of novelty's network for each time of the window."""
        if explorer is None:
            return None, {}
        counted = view.env_steps >= config.novelty_after * config.num_envs

        def step(explorer: Explorer, observations: Array) -> tuple[Explorer, Array]:
            return distil(novelty, novelty_optimizer, explorer, observations, counted)

        explorer, errors = jax.lax.scan(step, explorer, new(view.window.next_observation))
        return explorer, {"train/novelty": jnp.mean(intrinsic_reward(explorer.spread, errors))}

    def choose(
        actor: Params, memory: Learner, view: View, returns: Array, key: Key
    ) -> tuple[Array, Metrics]:
        """pi(z | s_1) climbs by its score: z itself is drawn, no gradient goes through it."""
        window = view.window
        each = jax.vmap(jax.vmap(lambda s, z: prior.log_prob(actor["prior"], s, z)))
        log_prior = each(view.normalise(window.observation), window.latent)
        climb = 0.0
        if not soft_q:
            alpha_z = weights(view).latent_entropy
            climb = score_function(log_prior, returns, window.is_first, alpha_z)
        penalty, metrics = regularizers(actor["head"], memory.decisions, view, key)
        # At every step, though z is drawn at the first: no entropy of pi, and far below zero where z
        # would not be drawn again.
        return penalty - climb, metrics | {"train/latent_log_prob": jnp.mean(log_prior)}

    def adopt(actor: Params, critic: Params, view: View) -> Params:
        """pi(z | s_1) by the critic as it is now."""
        if not soft_q:
            return actor
        alpha_z = jnp.maximum(weights(view).latent_entropy, LEAST_ALPHA_Z)
        now = {"critic": critic, "sharpness": jnp.float32(1.0) / alpha_z}
        return actor | {"prior": jax.tree.map(jnp.copy, now)}  # donated buffers must not be shared

    def learn(memory: Learner, view: View) -> tuple[Learner, Metrics]:
        def loss(params: Params) -> Array:
            likelihood = log_posterior(params, view)
            weight = view.window.finite.astype(likelihood.dtype)
            return -jnp.sum(weight * likelihood) / jnp.maximum(jnp.sum(weight), 1.0)

        def step(memory: Learner, _: None) -> tuple[Learner, Array]:
            value, gradient = jax.value_and_grad(loss)(memory.params)
            params, state, _ = descend(encoder_optimizer, gradient, memory.params, memory.optimizer)
            return memory._replace(params=params, optimizer=state), value

        memory = memory._replace(decisions=decisions(view.window))
        memory, values = jax.lax.scan(step, memory, None, config.encoder_steps)
        explorer, metrics = explore(memory.explorer, view)
        return memory._replace(explorer=explorer), metrics | {"train/log_posterior": -values[0]}

    variant = Variant(
        head=latent(head, prior),
        init_memory=init_memory,
        reward=bound,
        penalty=choose,
        update_memory=learn,
        value_inputs=values,
        value_input=lambda observation, window: judged(observation, window.latent),
        adopt=adopt,
    )

    def posterior(state: ShortHorizonState) -> Posterior:
        look, params = normaliser(state.statistics), state.memory.params
        return lambda z, o, a: encoder.log_prob(params, z, *evidence(o, a, look))

    agent = short_horizon(world, config, variant)
    return agent._replace(posterior=posterior if size else None)


# Of observations (..., obs) and actions (..., action), and how heads see observations.
Evidence = Callable[[Array, Array, Normalise], tuple[Array, Array]]
Penalty = Callable[[Params, Decisions, View, Key], tuple[Array, Metrics]]


def gaussian_head(
    inputs: int, action_size: int, config: RPGPhysicsConfig
) -> tuple[PolicyHead, Penalty]:
    """A tanh-Gaussian, which needs no regularizers."""
    head = gaussian(
        inputs,
        action_size,
        config.actor_hidden,
        config.activation,
        state_dependent_std=True,
        log_std_init=config.log_std_init,
    )

    def entropy(params: Params, previous: Decisions, view: View, key: Key):
        return jnp.float32(0.0), {"train/entropy": -jnp.mean(view.window.log_prob)}

    return head, entropy


def unregularized(
    params: Params, previous: Decisions, view: View, key: Key
) -> tuple[Array, Metrics]:
    """A head of one's own: what the bound says is all."""
    return jnp.float32(0.0), {}


def flow_head(
    inputs: int, action_size: int, config: RPGPhysicsConfig
) -> tuple[PolicyHead, Penalty]:
    """RFO's flow, with its regularizers."""
    field = velocity_field(inputs, action_size, config.actor_hidden, config.activation)
    head = flow(
        field,
        action_size,
        config.flow_steps,
        config.flow_solver,
        rematerialise=config.flow_rematerialise,
    )
    return head, flow_regularizers(field, action_size, config)


def behaviour(env: Env, world: Episodes, *sharply: Any) -> tuple[Evidence, int, int]:
    """The paper's: the state, as the policy sees it, and the action."""
    return (
        lambda observation, action, look: (look(observation), action),
        world.observation_size,
        world.action_size,
    )


def sharply(env: Env, frequencies: int) -> tuple[Callable[[Array], Array], int]:
    """Observations (..., obs), or their features, with sin 2^i x, cos 2^i x, i = 1 .., of objects' places x.

    x is what the observations hold of them, where they are normalised less a running mean. What is smooth
    tells places by metres, where centimetres may decide, and few of them are new. Heads do without: what they
    see would turn over every few steps.

    Returns:
        The function, and how many entries it adds.
    """
    if not frequencies:
        return lambda observation: observation, 0
    place = places(env, "object_frequencies")

    def watch(observation: Array) -> Array:
        sharp = waves(place(observation), range(1, 1 + frequencies))
        return jnp.concatenate([observation, *sharp], axis=-1)

    return watch, 2 * frequencies * env.object_coordinates


def objects(
    env: Env, world: Episodes, watch: Callable[[Array], Array], watched: int
) -> tuple[Evidence, int, int]:
    """Where the objects are, by `sharply`, and nothing else: z is not told from a gait, or from a twitch.

    Features are not normalised: at first everything stays where it is, and the spread of that is
    millimetres, which would do to tell latents apart.
    """
    width = getattr(env, "object_features", 0)
    if not width:
        raise ValueError("information_about 'objects' wants a task with objects (ObjectCentric)")

    def seen(observation: Array, action: Array, look: Normalise) -> tuple[Array, Array]:
        return watch(observation[..., -width:]), action[..., :0]

    return seen, width + watched, 0


HEADS = {"gaussian": gaussian_head, "flow": flow_head}
EVIDENCE = {"behaviour": behaviour, "objects": objects}
