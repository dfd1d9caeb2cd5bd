"""Training by name: what the command line, and five lines of Python, call."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from brax.envs import Env

from rpgjax.agents.agent import Agent, AgentState, Policy
from rpgjax.training.build import episode_length_of, make_agent, make_env, resolve
from rpgjax.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    DamagedCheckpoint,
    from_host,
)
from rpgjax.training.evaluate import evaluation_key, evaluator
from rpgjax.training.loop import Outcome, fit
from rpgjax.training.metrics import Row, last_update, read_metrics, write_json
from rpgjax.training.programs import enable_compilation_cache
from rpgjax.training.report import Report, default_report
from rpgjax.training.runs import (
    RunConfig,
    claim_folder,
    locked,
    new_folder,
    read_config,
    record_config,
    release_folder,
    run_name,
    seed_folders,
    write_goal,
)
from rpgjax.training.settings import RunError, TrainSettings


class Run(NamedTuple):
    """A trained agent, in memory or read back from its folder."""

    agent: Agent
    env: Env
    settings: TrainSettings
    state: AgentState  # of one seed; leads with (seed,) where `train` trained several
    update: int  # updates that led to `state`
    rows: list[list[Row]]  # metrics by seed
    folder: Path | None
    signum: int | None = None  # the signal that ended training early

    @property
    def policy(self) -> Policy:
        """The policy of a run of one seed, for raw observations."""
        _one_seed(self)
        return self.agent.policy(self.state)

    @property
    def episode_length(self) -> int:
        """Steps until an episode is cut off."""
        return episode_length_of(self.settings)


def train(
    settings: TrainSettings | str,
    env: Env | str | None = None,
    backend: str | None = None,
    *,
    seeds: int = 1,
    out: Path | str | None = None,
    progress: bool = True,
    report: Report | None = None,
    replay: bool = True,
    tensorboard: bool = False,
    **changes: Any,
) -> Run:
    """Trains an algorithm of this package on a task.

        run = rpgjax.train("rfo", env="hopper", updates=600, out="runs/hopper")

    Args:
        settings: an algorithm's name, whose preset for the task is taken, or complete settings.
        env: a task's name, or a task of one's own; None takes the one that `settings` names.
        backend: the physics of a Brax task; None takes the preset's.
        seeds: how many seeds to train as one program, from `seed` on.
        out: the run folder; it must not hold a run. None keeps everything in memory.
        progress: whether to print.
        report: who is told instead of the terminal.
        replay: whether to write `replay.html` and `replay.png` at the end; it costs a small compilation.
        tensorboard: also write TensorBoard event files.
        **changes: fields of `TrainSettings` and of the agent's config that differ from the preset.

    Raises:
        ValueError: an unknown algorithm, task or backend, or fields that do not fit together.
        TypeError: an unknown field.
        RunError: see `rpgjax.training.loop.fit`; also where `out` holds a run.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; it has to be at least 1")
    settings = resolve(settings, env, backend, changes)
    task = env if isinstance(env, Env) else make_env(settings)
    agent = make_agent(settings, task)
    custom = isinstance(env, Env)
    root = None if out is None else claim_folder(Path(out), settings, seeds, custom)
    with _whole_or_nothing(root, settings, seeds):
        return _fit(agent, task, settings, seeds, root, report, progress, replay, tensorboard)


def train_in(parent: Path, settings: TrainSettings, *, seeds: int = 1, **options: Any) -> Run:
    """`train`, in a new folder of `parent` that is named after the settings."""
    task = make_env(settings)
    agent = make_agent(settings, task)
    root = new_folder(parent, run_name(settings))
    record_config(root, settings, seeds, custom=False)
    with _whole_or_nothing(root, settings, seeds):
        return _fit(agent, task, settings, seeds, root, **options)


def resume(
    folder: Path | str,
    *,
    updates: int | None = None,
    env: Env | None = None,
    progress: bool = True,
    report: Report | None = None,
    replay: bool = True,
    tensorboard: bool = False,
) -> Run:
    """Goes on with a run that was stopped or killed, from its last checkpoint.

    On a CPU the result is that of a run that was never stopped, bit for bit.

    Args:
        folder: the run folder; for several seeds, the one that holds the seeds' folders.
        updates: a new goal, to train longer than planned.
        env: the task, where it was one of the caller's own.
        progress, report, replay, tensorboard: as in `train`.

    Raises:
        RunError: no run there, another process works on it, or its checkpoints are unusable.
    """
    root = Path(folder)
    config = configuration(root)
    if config.group:
        raise RunError(
            f"{root} is one seed of a run of several, trained as one program: resume {root.parent}",
            status=2,
        )
    settings = config.settings
    task = _task(config, root, env)
    agent = make_agent(settings, task)
    folders = seed_folders(root, settings.seed, config.seeds)
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise RunError(f"{missing[0]} is missing, one of the {config.seeds} seeds of {root}", 2)
    if updates is not None and updates != settings.updates:
        settings = dataclasses.replace(settings, updates=updates)
        done = last_update(read_metrics(folders[0] / "metrics.jsonl"))
        if updates < done:
            raise RunError(f"{root} has {done} updates already; --updates is how many in all", 2)
        with locked(folders):  # not another process's goal
            for folder in {root, *folders}:
                write_goal(folder, updates)
    return _fit(agent, task, settings, config.seeds, root, report, progress, replay, tensorboard)


def load(folder: Path | str, which: str = "best", env: Env | None = None) -> Run:
    """Reads a run of one seed back. One that was trained in 64 bits turns them on for the process.

    Args:
        folder: the run folder.
        which: "best", by mean return of the deterministic policy, or "last".
        env: the task, where it was one of the caller's own.

    Raises:
        RunError: no run there, no checkpoint yet, unusable ones, or 32 bits where 64 are on.
    """
    root = Path(folder)
    config = configuration(root)
    if config.seeds > 1:
        names = ", ".join(f.name for f in seed_folders(root, config.settings.seed, config.seeds))
        raise RunError(f"{root} holds a run of several seeds; choose one of {names}", status=2)
    task = _task(config, root, env)
    agent = make_agent(config.settings, task)
    if not (root / "checkpoints").is_dir():
        raise RunError(f"{root} has no checkpoint yet")
    checkpoints = Checkpoints(root / "checkpoints", config.settings, write=False)
    try:
        update = checkpoints.best() if which == "best" else max(checkpoints.updates(), default=None)
        if update is None:
            raise RunError(f"{root} has no checkpoint yet")
        try:
            host = checkpoints.restore(update)
        except DamagedCheckpoint as error:
            others = [str(other) for other in checkpoints.updates() if other != update]
            raise CheckpointError(f"{error} (others: {', '.join(others) or 'none'})") from error
    finally:
        checkpoints.close()
    state = from_host([host], jax.eval_shape(agent.init, jax.random.key(0)))
    rows = read_metrics(root / "metrics.jsonl")
    return Run(agent, task, config.settings, state, update, [rows], root)


def evaluate(run: Run, episodes: int = 64, seed: int = 0) -> dict[str, float]:
    """Metrics `eval/...` of a run of one seed, on `episodes` fresh episodes for each policy."""
    _one_seed(run)
    enable_compilation_cache()
    program = jax.jit(evaluator(run.agent, run.env, episodes, run.episode_length))
    states = jax.tree.map(lambda leaf: leaf[None], run.state)
    # Update -1 is none of training's: fresh resets even with the training seed.
    metrics = program(states, evaluation_key(seed, jnp.asarray(2**32 - 1, jnp.uint32))[None])
    return {name: float(value[0]) for name, value in metrics.items()}


def _one_seed(run: Run) -> None:
    if (seeds := len(run.rows)) > 1:
        raise ValueError(
            f"this run has {seeds} seeds: load one of them, `rpgjax.load(OUT / 'seed-0')`"
        )


def on_backend(run: Run, backend: str) -> Run:
    """The same policy on other physics.

    Raises:
        UsageError: the task has no such backend.
    """
    return run._replace(env=make_env(dataclasses.replace(run.settings, backend=backend)))


def configuration(folder: Path) -> RunConfig:
    """What a run folder's `config.json` says, with x64 turned on where the run had it.

    Raises:
        RunError: no run there, or one in 32 bits where this process computes in 64.
    """
    from rpgjax.agents import AGENTS

    config = read_config(folder, {name: pair[0] for name, pair in AGENTS.items()})
    if jax.config.jax_enable_x64 and not config.x64:
        raise RunError(
            f"{folder} was trained in 32 bits, and this process computes in 64 (x64 is on)"
        )
    if config.x64:
        jax.config.update("jax_enable_x64", True)
    return config


def _task(config: RunConfig, folder: Path, env: Env | None) -> Env:
    if env is not None:
        return env
    if config.custom:
        raise RunError(
            f"{folder} was trained on a task of its own ({config.settings.env}); "
            "call rpgjax from Python with env=..."
        )
    return make_env(config.settings)


@contextlib.contextmanager
def _whole_or_nothing(root: Path | None, settings: TrainSettings, seeds: int) -> Iterator[None]:
    """What is refused before it has trained leaves no folder behind."""
    try:
        yield
    except (TypeError, ValueError, RunError):
        if root is not None:
            release_folder(root, settings.seed, seeds)
        raise


def _fit(
    agent: Agent,
    env: Env,
    settings: TrainSettings,
    seeds: int,
    root: Path | None,
    report: Report | None = None,
    progress: bool = True,
    replay: bool = True,
    tensorboard: bool = False,
) -> Run:
    """`fit`, then what belongs into a run folder at the end."""
    with contextlib.closing(report or default_report(progress)) as told:
        outcome = fit(
            agent,
            env,
            settings,
            episode_length_of(settings),
            seeds=seeds,
            out=root,
            report=told,
            tensorboard=tensorboard,
        )
        run = Run(
            agent=agent,
            env=env,
            settings=settings,
            state=outcome.state,
            update=last_update(outcome.rows[0]),
            rows=outcome.rows,
            folder=root,
            signum=outcome.signum,
        )
        if root is not None:
            _illustrate(run, outcome, seeds, root, told, replay)
    return run


def _illustrate(
    run: Run, outcome: Outcome, seeds: int, root: Path, report: Report, replay: bool
) -> None:
    """Figures and replays; of a run that a signal ended, who may not have the time, the curves only."""
    from rpgjax.training.figures import comparison, learning_curve
    from rpgjax.training.latent_figures import draw as draw_latents
    from rpgjax.training.replay import render

    folders = seed_folders(root, run.settings.seed, seeds)
    first, whole = folders[0], outcome.signum is None
    with _attempt("learning curve", report):
        report.phase("drawing")
        for folder, rows in zip(folders, outcome.rows, strict=True):
            learning_curve(rows, folder / "learning_curve.png", title=folder.name)
        if seeds > 1:
            comparison([root], root / "learning_curve.png")
            summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
            names = (folder.name for folder in folders)
            write_json(root / "summary.json", dict(zip(names, summaries, strict=True)))
    if run.agent.posterior is not None and whole:
        with _attempt("latents.png", report):
            draw_latents(load(first, "last", run.env), first / "latents.png")
    if replay and whole:
        with _attempt("replay", report):
            report.phase("rendering the replay")
            render(load(first, "best", run.env), first / "replay.html")
    report.say(f"wrote {root}")


@contextlib.contextmanager
def _attempt(what: str, report: Report) -> Iterator[None]:
    """A run that trained is not lost because a picture fails, nor are its other pictures."""
    try:
        yield
    except Exception as error:  # whatever it is, the numbers are on disk
        report.say(f"warning: no {what}: {type(error).__name__}: {error}")
