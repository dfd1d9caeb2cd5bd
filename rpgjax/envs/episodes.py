"""Episodes: a Brax task with time limits, true terminal observations, random resets and a gradient.

Everything here is about a single environment; batch with `jax.vmap` (the bank has `in_axes=None`).
Resets are drawn from a *bank* of pre-sampled first states, because under `vmap` a reset inside a
step is computed on every step. Brax's own wrappers are not used: they overwrite the terminal
observation, replay one first state for ever, and count a time limit as death.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rpgjax.envs.object_centric import places
from rpgjax.envs.quiet import quiet_brax
from rpgjax.types import Array, Key

with quiet_brax():
    from brax.envs import Env, State

Bank = State  # first states, leaves (bank, ...): those of the archive, then fresh ones
LEAST_STD = 1e-6  # of observations, where the task says nothing: Brax's


class EpisodeState(NamedTuple):
    """Where an episode stands."""

    env_state: State  # the current state, after any automatic reset
    step_count: Array  # () int32, steps taken in this episode


class EpisodeStep(NamedTuple):
    """What one step of an episode reports."""

    observation: Array  # (obs,) where the next action is taken: after the reset, if one happened
    final_observation: Array  # (obs,) reached by this step, before any reset
    reward: Array  # ()
    terminated: Array  # () bool, the task ended the episode; the value after it is 0
    truncated: Array  # () bool, a time limit, or a breakdown; the value after it is bootstrapped
    finite: Array  # () bool, False where the step broke down; see `episodes`
    survival: Array  # () the chance that the task goes on, where the task tells it; else 1
    pace: Array  # () m/s forward, where the task tells it; else 0


class Episodes(NamedTuple):
    """A task as pure functions of a single environment."""

    observation_size: int
    action_size: int
    sample_bank: Callable[[Key], Bank]  # bank_size first states
    refresh_bank: Callable[[Bank, Key], Bank]  # replaces a few random fresh entries
    archive: Callable[[Bank, EpisodeState], Bank]  # takes in where episodes stand, (B, ...)
    reset: Callable[[Bank, Key], EpisodeState]  # one random entry, step_count 0
    desynchronise: Callable[[EpisodeState, Key], EpisodeState]  # random step_count
    step: Callable[[Bank, EpisodeState, Array, Key], tuple[EpisodeState, EpisodeStep]]
    least_std: Array | float = LEAST_STD  # (obs,) that whoever normalises observations divides by


def observation(state: EpisodeState) -> Array:
    """The observation, (obs,), on which the next action is taken."""
    return state.env_state.obs


def episodes(
    env: Env, episode_length: int, bank_size: int = 128, refresh: int = 4, archive_size: int = 0
) -> Episodes:
    """Turns any Brax `Env` into differentiable episodes with automatic resets.

    The task needs nothing special: `done` may be bool, int or float, `info` and `metrics` may hold
    any arrays (typed PRNG keys included), and leaves whose dtype drifts between `reset` and `step`
    are cast back to that of `reset` (observation and reward always to a float). An
    `info["truncation"]` that is set ends the episode as truncated rather than terminated, and an
    `info["survival"]` and an `info["pace"]` are passed on, as is the task's own `least_std`.

    Gradient: `step` is differentiable with respect to the state and the action. `reward` and
    `final_observation` always carry it; where the episode ended the new state is a constant, so
    nothing flows from it into the past.

    Breakdown: where the action, or the new observation, reward or physics state is not finite,
    `finite` is False, `reward` 0, `final_observation` the previous observation, `truncated` True
    and the state a fresh reset. No cotangent then enters the task's step. One that is not finite
    inside it can still come out as NaN (0 times infinity), and whoever differentiates masks it: see
    `rpgjax.rollout`.

    Args:
        env: the task; actions are in [-1, 1] by Brax's convention, and are not clipped here.
        episode_length: steps after which an episode is truncated.
        bank_size: number of first states kept.
        refresh: number of them replaced by each `refresh_bank`, at most all.
        archive_size: number of them that are visited states, as `archive` takes them in; see `covering`.

    Raises:
        ValueError: if a size is not positive, the archive leaves no fresh state or the task has no
            objects to spread it by, the observation is not one vector, or (when traced) `step` changes
            the structure or shapes of the state.
    """
    if episode_length < 1 or bank_size < 1 or refresh < 0:
        raise ValueError(
            "episodes want episode_length >= 1, bank_size >= 1 and refresh >= 0, "
            f"got {episode_length}, {bank_size} and {refresh}"
        )
    # By default accelerators multiply matrices with 7 or 10 bits of mantissa: too few for physics.
    full_precision = partial(jax.default_matmul_precision, "highest")
    if not 0 <= archive_size < bank_size:
        raise ValueError(
            f"archive_size ({archive_size}) must not be negative and leave one of bank_size ({bank_size})"
        )
    refresh = min(refresh, bank_size - archive_size)
    place = places(env, "archive_size") if archive_size else None
    task = type(env.unwrapped).__name__
    observed = jax.eval_shape(env.reset, jax.random.key(0)).obs
    if len(getattr(observed, "shape", ())) != 1:
        raise ValueError(f"{task} must observe one vector of shape (obs,), got {observed}")

    def sample(keys: Key) -> Bank:
        with full_precision():
            return jax.vmap(lambda key: _as_arrays(env.reset(key)))(keys)

    def sample_bank(key: Key) -> Bank:
        return sample(jax.random.split(key, bank_size))

    def refresh_bank(bank: Bank, key: Key) -> Bank:
        if refresh == 0:
            return bank
        where_key, reset_key = jax.random.split(key)
        states = sample(jax.random.split(reset_key, refresh))
        fresh = bank_size - archive_size
        where = archive_size + jax.random.choice(where_key, fresh, (refresh,), replace=False)
        return jax.tree.map(lambda old, new: old.at[where].set(new), bank, states)

    def archive(bank: Bank, reached: EpisodeState) -> Bank:
        if place is None:
            return bank
        kept = jax.tree.map(lambda leaf: leaf[:archive_size], bank)
        both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), kept, reached.env_state)
        stay = covering(place(both.obs), archive_size)
        return jax.tree.map(lambda old, new: old.at[:archive_size].set(new[stay]), bank, both)

    def draw(bank: Bank, key: Key) -> State:
        index = jax.random.randint(key, (), 0, bank_size)
        return jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf[index]), bank)

    def reset(bank: Bank, key: Key) -> EpisodeState:
        return EpisodeState(draw(bank, key), jnp.zeros((), jnp.int32))

    def desynchronise(state: EpisodeState, key: Key) -> EpisodeState:
        # Else all parallel environments meet their time limit in the same update.
        step_count = jax.random.randint(key, (), 0, episode_length, jnp.int32)
        return state._replace(step_count=step_count)

    def step(
        bank: Bank, state: EpisodeState, action: Array, key: Key
    ) -> tuple[EpisodeState, EpisodeStep]:
        previous = state.env_state
        usable = jnp.all(jnp.isfinite(action))
        # Known before the step, so the step itself can be kept clean (forward and backward).
        safe_action = jnp.where(usable, action, jnp.zeros_like(action))
        with full_precision():
            after = _step_a_copy(env, previous, safe_action)
        done = jnp.reshape(jnp.asarray(after.done) != 0, ())
        reached = _conform(after, previous, task)

        finite = usable & _stays_finite(previous, reached)
        step_count = state.step_count + 1
        limit = step_count >= episode_length
        own_limit = jnp.reshape(jnp.asarray(reached.info.get("truncation", False)) != 0, ())
        # Physics that broke down is no end that the task knows: worth nothing, it would be worth going for
        # where rewards are negative.
        terminated = finite & done & ~own_limit
        truncated = ~terminated & (limit | own_limit | ~finite)
        ended = terminated | truncated

        fresh, dtype = draw(bank, key), reached.reward.dtype
        env_state = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, reached)
        following = EpisodeState(env_state, jnp.where(ended, 0, step_count))
        return following, EpisodeStep(
            observation=env_state.obs,
            final_observation=jnp.where(finite, reached.obs, previous.obs),
            reward=jnp.where(finite, reached.reward, jnp.zeros_like(reached.reward)),
            terminated=terminated,
            truncated=truncated,
            finite=finite,
            survival=jnp.where(finite, jnp.asarray(reached.info.get("survival", 1.0), dtype), 1.0),
            pace=jnp.where(finite, jnp.asarray(reached.info.get("pace", 0.0), dtype), 0.0),
        )

    return Episodes(
        observation_size=observed.shape[0],
        action_size=int(env.action_size),
        sample_bank=sample_bank,
        refresh_bank=refresh_bank,
        archive=archive,
        reset=reset,
        desynchronise=desynchronise,
        step=step,
        least_std=getattr(env, "least_std", LEAST_STD),
    )


def covering(points: Array, count: int) -> Array:
    """Which of some points (n, d), in the order of their age, cover most: (count,), in that order.

    Out go those that have a newer one nearest: where many come, few are kept, the newest. What was reached
    once stays, however seldom anybody comes there again.
    """
    age = jnp.arange(points.shape[0])
    apart = jnp.sum((points[:, None] - points[None]) ** 2, axis=-1)
    to_newer = jnp.min(jnp.where(age[:, None] < age[None], apart, jnp.inf), axis=1)
    return jnp.sort(jax.lax.top_k(to_newer, count)[1])


def _as_arrays(state: State) -> State:
    """Every leaf an array of a strong dtype; observation and scalar reward are floats."""

    def strong(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        return leaf if _is_key(leaf) else leaf.astype(leaf.dtype)

    state = jax.tree.map(strong, state)
    return state.replace(
        obs=_as_float(state.obs),
        reward=jnp.reshape(_as_float(state.reward), ()),
        done=jnp.reshape(state.done, ()),
    )


def _conform(state: State, like: State, task: str) -> State:
    """`state` with the dtypes of `like`, so that it can be the carry of a scan."""
    state = state.replace(
        reward=jnp.reshape(jnp.asarray(state.reward), ()),
        done=jnp.reshape(jnp.asarray(state.done), ()),
    )
    ours, theirs = jax.tree.structure(like), jax.tree.structure(state)
    if ours != theirs:
        raise ValueError(
            f"{task}.step must return the structure of {task}.reset (do info and metrics have the "
            f"same entries?), got {theirs} after {ours}"
        )

    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(like), jax.tree.leaves(state), strict=True
    ):
        if jnp.shape(new) != old.shape:
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"{task}.step must keep the shapes of {task}.reset: state{where} was {old.shape} "
                f"and became {jnp.shape(new)}"
            )
    return as_dtypes(state, like)


def as_dtypes(state: State, like: State) -> State:
    """`state` with the dtypes of `like`: a task's steps may have others than its resets."""

    def cast(new: Any, old: Any) -> Array:
        new = jnp.asarray(new)
        return new if _is_key(new) else new.astype(old.dtype)

    return jax.tree.map(cast, state, like)


def stepped(env: Env, state: State, action: Array) -> State:
    """A task's step, in the dtypes of `state`, which stays as it is."""
    return as_dtypes(_step_a_copy(env, state, action), state)


def _step_a_copy(env: Env, state: State, action: Array) -> State:
    """The task's own step: Brax's tasks update the metrics of the state that they are given in place."""
    return env.step(jax.tree.map(lambda leaf: leaf, state), action)


def is_finite(state: State) -> Array:
    """Whether what a step reached, and what it paid, are numbers: of states (...), (...)."""
    return jnp.all(jnp.isfinite(state.obs), axis=-1) & jnp.isfinite(state.reward)


def _stays_finite(previous: State, reached: State) -> Array:
    """() bool: observation and reward are finite, and no finite physics number stopped being so.

    Physics numbers that were infinite all along are sentinels, and none of our business.
    """
    finite = is_finite(reached)
    before = jax.tree.leaves(previous.pipeline_state)
    for old, new in zip(before, jax.tree.leaves(reached.pipeline_state), strict=True):
        if jnp.issubdtype(new.dtype, jnp.inexact):
            finite &= jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old))
    return finite


def _as_float(value: Any) -> Array:
    value = jnp.asarray(value)
    floating = jnp.issubdtype(value.dtype, jnp.floating)
    return value if floating else value.astype(jnp.result_type(float))


def _is_key(value: Array) -> bool:
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
