"""How good a simulator's gradient is, and what it costs, as a table.

The gradient is that of an episode's first H rewards with respect to the H actions, open loop. A
gradient can be right and useless: exact at a point of a landscape so rough that no step of any size
follows it. So each row says both: how far automatic differentiation is from central differences at a
tiny step in float64, and how well it points where a finite step, the size of an exploring policy's
noise, would go.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs import Env, State
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from rpgjax.agents.agent import Policy
from rpgjax.envs.episodes import as_dtypes
from rpgjax.training.metrics import jsonable
from rpgjax.training.programs import Job
from rpgjax.types import Array, Key

CHECKED = 16  # environments whose gradient is compared with differences
DIRECTIONS = 32  # random directions of the smoothed gradient, in each of them
SMOOTHING = 1e-2  # size of the finite step, in each action
TINY_STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)  # of the central differences
LEAD = 100  # steps that a trained policy goes before its gradient is looked at
TIMED_SECONDS = 0.3  # at least this much of each rate

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One horizon of one task on one backend."""

    env: str
    backend: str
    horizon: int  # H, environment steps
    grad_norm_median: float  # over environments, float32, as training has it
    grad_norm_p90: float
    grad_norm_max: float
    nonfinite: int  # environments whose gradient has a NaN or an infinity; not in the norms
    fd_relative_error: float | None  # median over environments; None where nothing was finite
    smoothed_cosine: float | None  # median over environments; None where the gradient is zero
    forward_steps_per_second: float
    gradient_steps_per_second: float
    compile_seconds: float  # of the gradient program, from nothing


class Programs(NamedTuple):
    """Compiled; a traced count of steps makes one program serve every horizon."""

    returns: Callable[[Array, State, Array], Array]  # actions (H, B, A) -> (B,)
    gradient: Callable[[Array, State, Array], Array]  # -> (H, B, A)


def gradcheck(
    make: Callable[[], Env],
    env: str,
    backend: str,
    horizon: int = 32,
    num_envs: int = 64,
    seed: int = 0,
    policy: Policy | None = None,
    say: Say = print,
) -> list[Row]:
    """Measures the gradient of a task at every horizon 1, 2, 4, ... up to `horizon`.

    Args:
        make: builds the task; called once in float32 and once in float64.
        env, backend: the task's names, for the rows.
        horizon: the longest H.
        num_envs: environments in parallel, for the norms and the rates.
        seed: of resets, actions and directions.
        policy: None takes uniform actions from reset states; a trained policy is followed for 100
            steps (or until the last state before a fall), and its own sampled actions are taken.
        say: told what is being done.

    Raises:
        ValueError: a horizon or a number of environments below 1, or states that are not finite.
    """
    if horizon < 1 or num_envs < 1:
        raise ValueError(f"horizon ({horizon}) and num_envs ({num_envs}) must be at least 1")
    say(f"{env} ({backend}): the gradient program, float32 ...")
    task = make()
    states, actions = starting_points(task, horizon, num_envs, jax.random.key(seed), policy)
    require_finite(states, f"{env} ({backend})")
    single, compile_seconds = compile_programs(task, actions, states)

    say(f"compiled in {compile_seconds:.1f} s; the same in float64 ...")
    checked = min(CHECKED, num_envs)
    with jax.enable_x64(True):
        task = make()
        few = jax.tree.map(lambda x: x[:checked], states)
        few = as_dtypes(few, jax.eval_shape(jax.vmap(task.reset), split(0, checked)))
        points = jnp.asarray(actions[:, :checked], jnp.float64)
        double, _ = compile_programs(task, points, few)

    rows = []
    for count in horizons(horizon):
        say(f"H = {count} ...")
        norms, nonfinite = gradient_norms(single.gradient(actions, states, count))
        with jax.enable_x64(True):
            error, cosine = compare(double, points, few, count, seed)
        forward, gradient = rates((single.returns, single.gradient), (actions, states, count))
        rows.append(
            Row(
                env=env,
                backend=backend,
                horizon=count,
                grad_norm_median=float(np.median(norms)) if norms.size else float("nan"),
                grad_norm_p90=float(np.quantile(norms, 0.9)) if norms.size else float("nan"),
                grad_norm_max=float(norms.max()) if norms.size else float("nan"),
                nonfinite=nonfinite,
                fd_relative_error=error,
                smoothed_cosine=cosine,
                forward_steps_per_second=count * num_envs * forward,
                gradient_steps_per_second=count * num_envs * gradient,
                compile_seconds=compile_seconds,
            )
        )
    return rows


def horizons(longest: int) -> list[int]:
    """1, 2, 4, ... and the longest."""
    return [*(2**k for k in range(longest.bit_length()) if 2**k < longest), longest]


def split(seed: int, number: int) -> Key:
    """Keys (number,)."""
    return jax.random.split(jax.random.key(seed), number)


def starting_points(
    env: Env, horizon: int, num_envs: int, key: Key, policy: Policy | None
) -> tuple[State, Array]:
    """States (B,) and actions (H, B, A) at which the gradient is looked at."""
    reset_key, action_key, lead_key = jax.random.split(key, 3)
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(reset_key, num_envs))
    if policy is None:
        shape = (horizon, num_envs, env.action_size)
        return states, jax.random.uniform(action_key, shape, minval=-1.0, maxval=1.0)

    def follow(states: State, key: Key, steps: int) -> tuple[State, Array]:
        def step(loop: tuple[Any, State], key: Key) -> tuple[tuple[Any, State], Array]:
            carry, state = loop
            keys = jax.random.split(key, num_envs)
            carry, action = jax.vmap(policy.sample)(carry, state.obs, keys)
            after = as_dtypes(jax.vmap(env.step)(state, action), state)
            fell = after.done > 0  # stays where it was last on its feet

            def keep(new: Array, old: Array) -> Array:
                return jnp.where(fell.reshape(-1, *(1,) * (new.ndim - 1)), old, new)

            return (carry, jax.tree.map(keep, after, state)), action

        carry = jax.vmap(policy.reset)(states.obs, jax.random.split(key, num_envs))
        (_, states), actions = jax.lax.scan(step, (carry, states), jax.random.split(key, steps))
        return states, actions

    states, _ = jax.jit(follow, static_argnums=2)(states, lead_key, LEAD)
    _, actions = jax.jit(follow, static_argnums=2)(states, action_key, horizon)
    return states, actions


def require_finite(states: State, name: str) -> None:
    """Raises ValueError where a starting state holds a NaN or an infinity."""
    broken = np.zeros(states.done.shape, bool)
    for leaf in jax.tree.leaves((states.pipeline_state, states.obs)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            finite = np.isfinite(np.asarray(leaf))
            broken |= ~finite.reshape(len(broken), -1).all(axis=1)
    if broken.any():
        raise ValueError(f"{name}: {broken.sum()} of {broken.size} starting states aren't finite")


def compile_programs(env: Env, actions: Array, states: State) -> tuple[Programs, float]:
    """Both programs at these shapes, and the seconds that the gradient's took, alone."""

    def returns(actions: Array, states: State, count: Array) -> Array:
        """Sum of the first `count` rewards of each environment (B,)."""

        def on(loop: tuple[State, Array, Array]) -> tuple[State, Array]:
            state, total, action = loop
            after = jax.vmap(env.step)(state, action)
            return as_dtypes(after, state), total + after.reward

        def step(loop: tuple[State, Array], at: tuple[Array, Array]):
            when, action = at
            # A real branch, not a mask: steps beyond the horizon cost nothing and break nothing.
            loop = jax.lax.cond(when < count, on, lambda x: x[:2], (*loop, action))
            return loop, None

        total = jnp.zeros(states.done.shape, actions.dtype)
        times = jnp.arange(actions.shape[0])
        return jax.lax.scan(step, (states, total), (times, actions))[0][1]

    def gradient(actions: Array, states: State, count: Array) -> Array:
        return jax.grad(lambda a: returns(a, states, count).sum())(actions)

    began = time.perf_counter()
    job = Job(jax.jit(gradient).lower(actions, states, 1))
    compiled = job.result()
    seconds = time.perf_counter() - began
    return Programs(Job(jax.jit(returns).lower(actions, states, 1)).result(), compiled), seconds


def gradient_norms(gradient: Array) -> tuple[np.ndarray, int]:
    """Norms of the finite gradients among (H, B, A), and the number of the others."""
    gradient = np.asarray(gradient, np.float64)
    finite = np.isfinite(gradient).all(axis=(0, 2))
    return np.linalg.norm(gradient[:, finite], axis=(0, 2)), int((~finite).sum())


def compare(
    programs: Programs, actions: Array, states: State, count: int, seed: int
) -> tuple[float | None, float | None]:
    """Median over environments of the error against tiny differences, and of the smoothed cosine.

    Of the tiny steps, each environment takes the one whose difference agrees best with the next
    one's: large steps miss the curvature, small ones drown in rounding. An environment whose
    differences never agree is at the switch of a contact; the median passes over a few of them.
    """
    generator = np.random.default_rng(seed)
    gradient = np.asarray(programs.gradient(actions, states, count))
    finite = np.isfinite(gradient).all(axis=(0, 2))
    if not finite.any():
        return None, None

    def slope(direction: np.ndarray, step: float) -> np.ndarray:
        """Central differences (B,) along a direction (H, B, A)."""
        ahead, behind = (
            np.asarray(programs.returns(actions + side * step * direction, states, count))
            for side in (1.0, -1.0)
        )
        return (ahead - behind) / (2.0 * step)

    def along(direction: np.ndarray) -> np.ndarray:
        """The gradient's own slope (B,)."""
        return np.sum(gradient * direction, axis=(0, 2))

    direction = generator.standard_normal(gradient.shape)
    slopes = np.stack([slope(direction, step) for step in TINY_STEPS])
    apart = np.abs(np.diff(slopes, axis=0))
    best = np.argmin(np.where(np.isfinite(apart), apart, np.inf), axis=0)
    found, expected = np.take_along_axis(slopes, best[None], axis=0)[0], along(direction)
    size = np.maximum(np.abs(found), np.abs(expected))
    error = np.where(size > 0, np.abs(found - expected) / np.where(size > 0, size, 1.0), 0.0)
    # Nothing is the gradient of a return that breaks.
    error = np.where(np.isfinite(found), error, np.inf)

    directions = generator.standard_normal((DIRECTIONS, *gradient.shape))
    smoothed = np.stack([slope(direction, SMOOTHING) for direction in directions])
    exact = np.stack([along(direction) for direction in directions])
    lengths = np.linalg.norm(smoothed, axis=0) * np.linalg.norm(exact, axis=0)
    told = finite & (lengths > 0) & np.isfinite(lengths)
    cosine, lengths = np.sum(smoothed * exact, axis=0)[told], lengths[told]
    return (
        float(np.median(error[finite])),
        float(np.median(cosine / lengths)) if lengths.size else None,
    )


def rates(calls: Sequence[Callable[..., Array]], arguments: tuple[Any, ...]) -> list[float]:
    """Calls a second of each, by the medians of calls that take TIMED_SECONDS for each of them.

    They are called in turn: what slows the machine down for a while slows all of them.
    """
    taken: list[list[float]] = [[] for _ in calls]
    for call in calls:
        jax.block_until_ready(call(*arguments))
    stop = time.perf_counter() + TIMED_SECONDS * len(calls)
    while time.perf_counter() < stop or len(taken[0]) < 3:
        for call, times in zip(calls, taken, strict=True):
            began = time.perf_counter()
            jax.block_until_ready(call(*arguments))
            times.append(time.perf_counter() - began)
    return [1.0 / float(np.median(times)) for times in taken]


def to_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Rows as plain objects; numbers that are not finite become None."""
    return jsonable([asdict(row) for row in rows])


def report(rows: list[Row]) -> None:
    """Prints the rows as a table."""
    first = rows[0]
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{first.env} ({first.backend}), compiled in {first.compile_seconds:.1f} s",
    )
    titles = (
        "H",
        "median",
        "90 %",
        "largest",
        "bad",
        "error",
        "cosine",
        "forward",
        "gradient",
        "ratio",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row.horizon),
            *(f"{x:.2g}" for x in (row.grad_norm_median, row.grad_norm_p90, row.grad_norm_max)),
            str(row.nonfinite),
            "-" if row.fd_relative_error is None else f"{row.fd_relative_error:.0e}",
            "-" if row.smoothed_cosine is None else f"{row.smoothed_cosine:.3f}",
            f"{row.forward_steps_per_second:,.0f}",
            f"{row.gradient_steps_per_second:,.0f}",
            f"{row.forward_steps_per_second / row.gradient_steps_per_second:.1f}",
        )
    Console().print(table)
    print("bad: environments whose gradient isn't finite; they are not in the norms")
    print("error: automatic differentiation against central differences, float64, median")
    print(
        f"cosine: the gradient against slopes over steps of {SMOOTHING:g} in every action, median"
    )
