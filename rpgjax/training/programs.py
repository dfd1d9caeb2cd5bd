"""The three programs of a run, compiled ahead of time and side by side."""

import contextlib
import hashlib
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax.envs import Env

from rpgjax.agents.agent import Agent, AgentState
from rpgjax.training.evaluate import evaluator
from rpgjax.training.settings import RunError
from rpgjax.types import Array, Key, Metrics

LONGEST_CHUNK = 32  # updates that one call of the update program can run


class Programs(NamedTuple):
    """A run's compiled programs. States lead with (seed,) where a run has several seeds."""

    init: Callable[[Key], AgentState] | None  # keys (seed,), or () for one
    update: Callable[[AgentState, Array], tuple[AgentState, Metrics]]  # donates the state; a count
    evaluate: Callable[[AgentState, Key], Metrics]  # metrics (seed,)
    state: AgentState  # the state's shapes and dtypes
    compile_seconds: float


def enable_compilation_cache() -> Path:
    """Turns JAX's persistent compilation cache on, and returns its folder.

    The folder is `$RPGJAX_CACHE_DIR`, or `rpgjax` in the user's cache folder. On a CPU the compiled
    code uses the processor's own instructions, so each kind of processor has a folder of its own:
    a home folder shared by a cluster stays safe. A cache configured already is left as it is.
    """
    if jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    root = os.environ.get("RPGJAX_CACHE_DIR")
    if root is None:
        root = os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "rpgjax"
        )
    folder = Path(root) / f"xla-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return folder  # a read-only home: compile every time rather than fail
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"


def build_programs(
    agent: Agent,
    env: Env,
    seeds: int,
    eval_episodes: int,
    episode_length: int,
    fresh: bool = True,
    wait: Callable[[Sequence[str]], None] = lambda pending: None,
) -> Programs:
    """Traces and compiles a run's programs.

    Args:
        agent: what is trained; with `seeds` > 1, `init` and `update` take states of all the seeds.
        env: the task, for evaluation.
        seeds: how many runs the program holds.
        eval_episodes, episode_length: as in `rpgjax.training.evaluate.evaluator`.
        fresh: whether `init` will be called; it is None otherwise.
        wait: called several times a second while compiling, with what is still being compiled. An
            exception that it raises ends the wait.
    """
    began = time.perf_counter()
    # Inner jits, so that a function that is needed twice below is traced once.
    init, update = jax.jit(agent.init), jax.jit(agent.update)
    if seeds > 1:
        init, update = jax.jit(jax.vmap(agent.init)), jax.jit(over_seeds(agent.update))
    evaluate = evaluator(agent, env, eval_episodes, episode_length)

    def init_strong(key: Key) -> AgentState:
        return strong(init(key))

    def update_many(state: AgentState, count: Array) -> tuple[AgentState, Metrics]:
        """`count` updates; their metrics stacked in front, and zeros up to LONGEST_CHUNK."""
        shapes = jax.eval_shape(update, state)[1]
        stacks = {k: jnp.zeros((LONGEST_CHUNK, *v.shape), v.dtype) for k, v in shapes.items()}

        def one(index: Array, now: tuple[AgentState, Metrics]) -> tuple[AgentState, Metrics]:
            state, metrics = update(now[0])
            stacks = {k: v.at[index].set(metrics[k]) for k, v in now[1].items()}
            return strong(state), stacks

        # A traced count, so that one program serves chunks of every length: a second program
        # would cost minutes, and need not round in the same way.
        return jax.lax.fori_loop(0, count, one, (state, stacks))

    def evaluate_all(states: AgentState, keys: Key) -> Metrics:
        if seeds == 1:
            states = jax.tree.map(lambda x: x[None], states)
        return evaluate(states, keys)

    key = jax.eval_shape(jax.random.key, 0)
    keys = _abstract(jax.eval_shape(lambda k: jax.random.split(k, seeds), key))
    try:
        state = _abstract(jax.eval_shape(init_strong, keys if seeds > 1 else key))
    except (ValueError, TypeError) as error:  # what shapes cannot be made from
        reason = " ".join(str(error).split())
        raise RunError(f"no agent can be made from these settings: {reason}", 2) from error
    count = jax.ShapeDtypeStruct((), jnp.int32)

    # Traced one after the other, as tracing holds the interpreter; compiled side by side.
    start = partial(Job, fusion_emitters=agent.fusion_emitters)
    jobs: dict[str, Job] = {}
    jobs["update"] = start(jax.jit(update_many, donate_argnums=0).lower(state, count))
    wait(list(jobs))
    jobs["evaluation"] = start(jax.jit(evaluate_all).lower(state, keys))
    wait(list(jobs))
    if fresh:
        jobs["reset"] = start(jax.jit(init_strong).lower(keys if seeds > 1 else key))
    while pending := [name for name, job in jobs.items() if not job.done()]:
        wait(pending)
        jobs[pending[0]].join(0.1)
    return Programs(
        init=jobs["reset"].result() if fresh else None,
        update=jobs["update"].result(),
        evaluate=jobs["evaluation"].result(),
        state=state,
        compile_seconds=time.perf_counter() - began,
    )


def over_seeds(update: Callable[[AgentState], tuple[AgentState, Metrics]]) -> Callable:
    """`update` for states that lead with (seed,), in one program.

    `vmap` on an accelerator. A CPU takes the seeds in turn: one seed fills its cores already, and
    stays in its caches (RFO on Ant, one core: three in turn take 0.77 of the time of three batched).
    """
    if jax.default_backend() == "cpu":
        return lambda states: jax.lax.map(update, states)
    return jax.vmap(update)


class Job:
    """One compilation in a thread that does not keep the process alive: Ctrl-C works during it."""

    def __init__(self, lowered: Any, fusion_emitters: bool = False) -> None:
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, args=(lowered, fusion_emitters), name="rpgjax-compile", daemon=True
        )
        self._thread.start()

    def _run(self, lowered: Any, fusion_emitters: bool) -> None:
        try:
            self._outcome = compile_program(lowered, fusion_emitters)
        except BaseException as error:  # handed to the thread that waits
            self._error = error

    def join(self, seconds: float) -> None:
        """Waits, at most so long."""
        self._thread.join(seconds)

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return not self._thread.is_alive()

    def result(self) -> Any:
        """Waits; the compiled program, or the error that stopped it."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._outcome


def compile_program(lowered: Any, fusion_emitters: bool = False) -> Any:
    """Compiles; on a CPU with or without XLA's fusion emitters (`Agent.fusion_emitters`)."""
    if jax.default_backend() == "cpu" and not fusion_emitters:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # a version without the option
            return lowered.compile(compiler_options={"xla_cpu_use_fusion_emitters": False})
    return lowered.compile()


def strong(tree: Any) -> Any:
    """Without weak types, so that a state has one type before and after an update."""

    def strong(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        return jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(strong, tree)


def _abstract(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
