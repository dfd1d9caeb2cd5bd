"""What a policy's latent does: where episodes go for each z, and whether z can be read off them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.agents.agent import AgentState, told
from rpgjax.envs.episodes import is_finite, stepped
from rpgjax.training.evaluate import evaluation_key
from rpgjax.types import Array

if TYPE_CHECKING:
    from rpgjax.training.launch import Run

EPISODES = 64
SQUARES = 20  # of a coverage map, on a side


class Played(NamedTuple):
    """Episodes of one policy, as NumPy arrays; what follows an episode's end is its last position."""

    position: np.ndarray  # (N, T + 1, 2)
    observation: np.ndarray  # (N, T, obs), where the action was taken
    action: np.ndarray  # (N, T, action)
    alive: np.ndarray  # (N, T) bool, the step was taken, and its dynamics did not break
    returns: np.ndarray  # (N,)
    z: np.ndarray  # (N, z), of width 0 where the policy has none


def place(state: Any) -> Array:
    """Where a task's state is on its plane, (2,): the first link's x and y, or a state's first two."""
    pose = getattr(state.pipeline_state, "x", None)
    return state.pipeline_state[:2] if pose is None else pose.pos[0, :2]


def play(
    run: "Run",
    state: AgentState,
    episodes: int = EPISODES,
    sampled: bool = True,
    seed: int = 0,
    z: np.ndarray | None = None,
) -> Played:
    """Plays whole episodes of the policy in `state`, with latents z (N, z), or such as it draws."""
    plain = run.agent.policy(state)

    def episode(key: jax.Array, z: Array | None) -> tuple[Any, ...]:
        policy = plain if z is None else told(plain, z)
        reset_key, carry_key, key = jax.random.split(key, 3)
        world = jax.tree.map(jnp.asarray, run.env.reset(reset_key))
        carry = policy.reset(world.obs, carry_key)

        def step(now: tuple[Any, Any, Array], key: jax.Array) -> tuple[Any, Any]:
            before, carry, alive = now
            if sampled:
                carry, action = policy.sample(carry, before.obs, key)
            else:
                carry, action = policy.mode(carry, before.obs)
            after = stepped(run.env, before, action)
            alive &= is_finite(after)
            after = jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, before)
            seen = (place(after), before.obs, action, alive, jnp.where(alive, after.reward, 0.0))
            return (after, carry, alive & (after.done == 0)), seen

        start = (world, carry, jnp.ones((), bool))
        keys = jax.random.split(key, run.episode_length)
        _, (path, observation, action, alive, reward) = jax.lax.scan(step, start, keys)
        path = jnp.concatenate([place(world)[None], path])
        z = getattr(carry, "z", jnp.zeros(0))
        return path, observation, action, alive, jnp.sum(reward), z

    keys = jax.random.split(evaluation_key(seed, 0), episodes)
    return Played(*map(np.asarray, jax.jit(jax.vmap(episode))(keys, z)))


def drawn(run: "Run", state: AgentState, episodes: int = EPISODES, seed: int = 0) -> np.ndarray:
    """The latents (N, z) that the policy in `state` draws where episodes start; of width 0 without any."""
    policy = run.agent.policy(state)

    def latent(key: jax.Array) -> Array:
        reset_key, carry_key = jax.random.split(key)
        return getattr(policy.reset(run.env.reset(reset_key).obs, carry_key), "z", jnp.zeros(0))

    return np.asarray(
        jax.jit(jax.vmap(latent))(jax.random.split(evaluation_key(seed, 0), episodes))
    )


def is_discrete(z: np.ndarray) -> bool:
    """Whether latents (N, z) are one-hot, each one of several."""
    return z.shape[1] > 0 and bool(np.all((z == 0) | (z == 1)) and np.all(z.sum(axis=1) == 1))


def identified(run: "Run", state: AgentState, played: Played) -> np.ndarray:
    """How well latents can be read off what was done with them: (N, N), rows sum to 1.

    Row i is the posterior over the N latents that were drawn, each as likely before, given a step of
    episode i: softmax over j of the mean over its steps of log p_phi(z_j | s_t, a_t).
    """
    assert run.agent.posterior is not None
    log_prob = run.agent.posterior(state)

    def score(z: Array, observation: Array, action: Array, alive: Array) -> Array:
        logs = jax.vmap(lambda o, a: log_prob(z, o, a))(observation, action)
        return jnp.sum(logs * alive) / jnp.maximum(jnp.sum(alive), 1.0)

    of_episode = jax.vmap(score, (0, None, None, None))
    table = jax.jit(jax.vmap(of_episode, (None, 0, 0, 0)))(
        played.z, played.observation, played.action, played.alive
    )
    return np.asarray(jax.nn.softmax(table, axis=1))


def colours(z: np.ndarray) -> np.ndarray:
    """A colour (N, 4) for each latent (N, z): by category, or by direction in its first two dimensions."""
    from matplotlib import colormaps

    if z.shape[1] == 0:
        return np.tile(colormaps["tab10"](0), (len(z), 1))
    if is_discrete(z):
        return colormaps["tab20" if z.shape[1] > 10 else "tab10"](np.argmax(z, axis=1))
    if z.shape[1] == 1:
        return colormaps["coolwarm"](np.clip(0.5 + 0.25 * z[:, 0], 0.0, 1.0))
    return colormaps["hsv"]((np.arctan2(z[:, 1], z[:, 0]) / (2 * np.pi)) % 1.0)


def square(points: np.ndarray) -> np.ndarray:
    """The sides (2, 2), from and to in x and y, of a square about all of (N, 2), a little wider."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.525 * max(float((high - low).max()), 1e-3)
    middle = (low + high) / 2
    return np.stack([middle - half, middle + half], axis=1)


def draw(run: "Run", path: Path, episodes: int = EPISODES) -> None:
    """Sampled episodes of a run of one seed, a map of where they go, and who can be told from whom.

    Where z is one of a few, each is shown as often as the others, however seldom it is drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    z, shares, each = drawn(run, run.state, episodes), None, None
    if is_discrete(z):
        shares = np.mean(z, axis=0)
        each = np.eye(len(shares), dtype=z.dtype)[np.arange(episodes) % len(shares)]
    played = play(run, run.state, episodes, z=each)
    known = run.agent.posterior is not None
    order = np.lexsort(played.z.T) if known else np.arange(episodes)
    played = Played(*(array[order] for array in played))
    figure = Figure(figsize=(4.6 * (2 + known), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 + known)
    walls = getattr(run.env.unwrapped, "walls", None)
    for axis in axes[:2]:
        for wall in walls() if walls else ():
            axis.plot(*np.transpose(wall), color="black", linewidth=1.2)
        axis.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
    for one, colour in zip(played.position, colours(played.z), strict=True):
        axes[0].plot(*one.T, color=colour, linewidth=0.8, alpha=0.8)
    axes[0].set_title("episodes, coloured by z" if known else "episodes")
    if shares is not None:
        for colour, share in zip(colours(np.eye(len(shares))), shares, strict=True):
            axes[0].plot([], [], color=colour, label=f"{share:.0%}")
        axes[0].legend(title="drawn in", fontsize="x-small", title_fontsize="x-small")
    corners = list(walls()) if walls else []
    sides = square(np.concatenate([played.position.reshape(-1, 2), *corners]))
    counts, *_ = np.histogram2d(*played.position.reshape(-1, 2).T, bins=SQUARES, range=sides)
    image = axes[1].imshow(
        np.log1p(counts.T), origin="lower", extent=sides.reshape(-1), cmap="viridis"
    )
    axes[1].set_title(f"visits (log), {np.mean(counts > 0):.0%} of the squares")
    figure.colorbar(image, ax=axes[1], shrink=0.7)
    if known:
        chances = identified(run, run.state, played)
        image = axes[2].imshow(chances, vmin=0.0, cmap="magma")
        axes[2].set(
            xlabel="latent asked for", ylabel="episode", title="p(z | a step of the episode)"
        )
        figure.colorbar(image, ax=axes[2], shrink=0.7)
    settings = run.settings
    figure.suptitle(f"{settings.algorithm} on {settings.env}, update {run.update}")
    figure.savefig(path, dpi=120)
