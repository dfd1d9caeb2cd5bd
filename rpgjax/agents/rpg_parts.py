"""What RPG is made of: its networks, what it learns, and what it replays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rpgjax.agents.exploration import Explorer, no_explorer
from rpgjax.agents.rpg_config import RPGConfig
from rpgjax.agents.rpg_heads import HEADS, unpenalised
from rpgjax.envs.episodes import Episodes, EpisodeState, EpisodeStep
from rpgjax.models.latent_encoder import LatentEncoder, categorical_encoder, gaussian_encoder
from rpgjax.models.networks import critic_network
from rpgjax.models.world_model import ModelState, WorldModel, world_model
from rpgjax.objectives.novelty import Novelty, random_network
from rpgjax.policies import PolicyHead
from rpgjax.policies.latent import Prior, categorical, latent, standard_normal
from rpgjax.rollout import Transition
from rpgjax.types import Array, Key, Metrics, Params, is_known, known_to_be


class Parts(NamedTuple):
    """The networks, as pure functions."""

    model: WorldModel
    critic: Any  # V(params, [s, z]) -> (2, ...)
    init_critic: Any
    head: PolicyHead  # on s, with a latent
    penalty: Callable[[Params, Transition, Key], tuple[Array, Metrics]]  # beside the bound
    prior: Prior  # pi(z | s_1)
    posterior: LatentEncoder  # p_phi(z | s, a)
    novelty: Novelty | None  # of observations; None: nobody pays for it
    optimizer: optax.GradientTransformation  # one like it for every part
    action_size: int


class Learner(NamedTuple):
    """Everything that learning reads and writes."""

    model: Params  # {"world", "critic"}
    target: Params  # their moving average
    actor: Params
    encoder: Params
    log_alpha: Array  # ()
    explorer: Explorer | None  # None without novelty
    optimizers: dict[str, optax.OptState]


class Segment(NamedTuple):
    """What replay holds of a step; a sample of it is (H, B, ...)."""

    observation: Array
    action: Array
    reward: Array
    next_observation: Array  # reached by the step, before any reset
    terminated: Array  # bool: the task ended there
    ended: Array  # bool: the next entry is of another episode
    latent: Array  # that the episode was acted with
    finite: Array  # bool: the dynamics did not break in the step, which tells something


def make_parts(world: Episodes, config: RPGConfig, head: PolicyHead | None = None) -> Parts:
    """The networks that `config` describes; none of them has a LayerNorm, but a flow's.

    Args:
        world: the task.
        config: the settings.
        head: a policy on [s, z], in place of the one that `config` describes.

    Raises:
        ValueError: a head that carries something from step to step, or `latent_unused` of a discrete z,
            of more entries than there are, or of a part of one.
    """
    s, z = config.model_size, config.latent_size
    unused, discrete = config.latent_unused, config.latent == "discrete"
    if discrete and not known_to_be(unused, 0.0):
        raise ValueError("latent_unused is of a continuous z: a discrete one has all its entries")
    if is_known(unused) and (unused > z or unused != round(float(unused))):
        raise ValueError(
            f"latent_unused ({unused:g}) must be a whole number, latent_size ({z}) at most"
        )
    init_critic, critic = critic_network(
        s + z, config.hidden, config.activation, 2, layer_norm=False
    )
    inner, penalty = (
        HEADS[config.head](s + z, world.action_size, config) if head is None else unpenalised(head)
    )
    key, told = jax.eval_shape(lambda: (jax.random.key(0), jnp.zeros(s + z)))
    if jax.eval_shape(inner.reset, jax.eval_shape(inner.init, key), told, key) != ():
        raise ValueError(
            "this head carries something, not (), and imagination starts anywhere in an episode"
        )
    shape = (z, s, world.action_size, config.hidden, config.activation)
    if discrete:
        prior = categorical(
            z, s, config.hidden, config.activation, config.latent_entropy, layer_norm=False
        )
        posterior = categorical_encoder(*shape, layer_norm=False)
    else:
        used = z - unused
        prior = standard_normal(z, used)
        posterior = gaussian_encoder(*shape, layer_norm=False, used=used)
    return Parts(
        model=world_model(
            world.observation_size, world.action_size, s, config.hidden, config.activation
        ),
        critic=critic,
        init_critic=init_critic,
        head=latent(inner, prior),
        penalty=penalty,
        prior=prior,
        posterior=posterior,
        novelty=None
        if known_to_be(config.novelty_scale, 0.0)
        else random_network(world.observation_size, config.novelty_width),
        optimizer=optax.chain(
            optax.clip_by_global_norm(config.max_grad_norm), optax.adam(config.learning_rate)
        ),
        action_size=world.action_size,
    )


def make_learner(parts: Parts, key: Key) -> Learner:
    """Fresh parameters, and an optimizer for each."""
    keys = iter(jax.random.split(key, 5))
    model = {"world": parts.model.init(next(keys)), "critic": parts.init_critic(next(keys))}
    actor, encoder = parts.head.init(next(keys)), parts.posterior.init(next(keys))
    explorer_key, explorer = next(keys), None
    if parts.novelty is not None:
        explorer = no_explorer(parts.novelty, parts.optimizer, explorer_key)
    log_alpha = jnp.float32(0.0)
    learnt = {
        "model": model,
        "actor": actor,
        "encoder": encoder,
        "alpha": log_alpha,
    }
    if parts.prior.worth is not None:
        learnt["prior"] = actor["prior"]
    return Learner(
        model=model,
        target=jax.tree.map(jnp.copy, model),  # donated buffers must not be shared
        actor=actor,
        encoder=encoder,
        log_alpha=log_alpha,
        explorer=explorer,
        optimizers={name: parts.optimizer.init(params) for name, params in learnt.items()},
    )


def segment_of(window: Transition) -> Segment:
    """What replay keeps of a window.

    An action that broke a step was not acted on, and a mask would not keep its NaN from the others.
    """
    return Segment(
        window.observation,
        jnp.where(window.finite[..., None], window.action, 0.0),
        window.reward,
        window.next_observation,
        window.terminated,
        window.terminated | window.truncated,
        window.latent,
        window.finite,
    )


def before_the_end(ended: Array) -> Array:
    """True up to and with a segment's first end, (H, B): what follows is another episode's."""
    ends = jnp.cumsum(ended.astype(jnp.int32), axis=0)
    return jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]]) == 0


def imagined(model: WorldModel, params: Params, action_size: int) -> Episodes:
    """The world model as a world to unroll in: it steps like a task, and never ends."""

    def step(
        bank: Any, state: EpisodeState, action: Array, key: Key
    ) -> tuple[EpisodeState, EpisodeStep]:
        reached = model.step(params, state.env_state, action)
        s, no = reached.state.obs, jnp.zeros((), bool)
        report = EpisodeStep(s, s, reached.reward, no, no, ~no, jnp.ones(()), jnp.zeros(()))
        return EpisodeState(reached.state, state.step_count + 1), report

    def unused(*_: Any) -> Any:
        raise NotImplementedError("imagined rollouts start from states of replay")

    return Episodes(
        observation_size=model.size,
        action_size=action_size,
        sample_bank=unused,
        refresh_bank=unused,
        archive=unused,
        reset=unused,
        desynchronise=unused,
        step=step,
    )


def encode(parts: Parts, params: Params, observations: Array) -> ModelState:
    """States (..., size) of observations (..., obs), by the model of `Learner.model` or `.target`."""
    flat = observations.reshape(-1, observations.shape[-1])
    states = jax.vmap(lambda o: parts.model.encode(params["world"], o))(flat)
    return jax.tree.map(lambda x: x.reshape(*observations.shape[:-1], -1), states)
