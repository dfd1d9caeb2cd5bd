"""The training loop: chunks of updates on the device; evaluations and checkpoints in between."""

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from brax.envs import Env

from rpgjax.agents.agent import Agent, AgentState
from rpgjax.training.checkpoints import (
    Checkpoints,
    DamagedCheckpoint,
    HostState,
    from_host,
    is_disk_full,
    to_host,
)
from rpgjax.training.evaluate import evaluation_key
from rpgjax.training.interrupt import Interrupt
from rpgjax.training.metrics import (
    Row,
    append_metrics,
    last_update,
    nonfinite_streak,
    read_metrics,
    score,
    summarise,
    truncate_metrics,
    write_json,
)
from rpgjax.training.programs import (
    LONGEST_CHUNK,
    Programs,
    build_programs,
    enable_compilation_cache,
)
from rpgjax.training.report import Report
from rpgjax.training.runs import locked, seed_folders
from rpgjax.training.settings import RunError, TrainSettings

__all__ = ["Outcome", "TrainSettings", "fit"]

_CHUNK_SECONDS = 2.0  # between two looks at the metrics, where an update is shorter than that
_BROKEN_UPDATES = 20  # in a row without one finite gradient: the run is lost


class Outcome(NamedTuple):
    """What a training run leaves in memory."""

    state: AgentState  # after the last update; leads with (seed,) for several seeds
    rows: list[list[Row]]  # metrics by seed, one row an update
    signum: int | None  # the signal that ended it early


def fit(
    agent: Agent,
    env: Env,
    settings: TrainSettings,
    episode_length: int,
    *,
    seeds: int = 1,
    out: Path | None = None,
    report: Report | None = None,
    tensorboard: bool = False,
) -> Outcome:
    """Trains `agent`, and goes on where checkpoints in `out` left off.

    Args:
        agent: any agent, of this package or not.
        env: the task that evaluations are run on.
        settings: how long, how often; the seed. `settings.agent` is what checkpoints are told apart by.
        episode_length: steps after which evaluation cuts an episode off.
        seeds: how many seeds, from `settings.seed` on, are trained as one program.
        out: the run folder, with `metrics.jsonl`, `checkpoints/` and `summary.json`; for several
            seeds one such folder each in `out/seed-K`. None writes nothing.
        report: what is told of the progress; None is silence.
        tensorboard: also write TensorBoard event files, if tensorboardX is installed.

    Returns:
        The final state and every row of metrics. A signal ends the run after the current chunk,
        with a checkpoint, and is returned.

    Raises:
        RunError: a full disk or memory, foreign or damaged checkpoints, dynamics that stay non-finite. What
            was saved before stays usable.
    """
    enable_compilation_cache()
    folders = seed_folders(out, settings.seed, seeds) if out is not None else []
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(folders))
        interrupt = stack.enter_context(Interrupt())
        run = _Run(agent, env, settings, episode_length, seeds, folders, report or Report())
        stack.callback(run.close)
        if tensorboard:
            run.open_tensorboard()
        try:
            return run.train(interrupt)
        except OSError as error:
            if is_disk_full(error):
                raise RunError(f"no space left on device while writing {out}") from error
            raise
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise RunError(f"out of memory; try {smaller(settings, seeds)}") from error
            raise


class _Run:
    """The moving parts of one call of `fit`."""

    def __init__(
        self,
        agent: Agent,
        env: Env,
        settings: TrainSettings,
        episode_length: int,
        seeds: int,
        folders: Sequence[Path],
        report: Report,
    ) -> None:
        self.agent, self.env, self.settings = agent, env, settings
        self.episode_length, self.seeds, self.report = episode_length, seeds, report
        self.folders = folders
        self.numbers = [settings.seed + index for index in range(seeds)]
        self.checkpoints: list[Checkpoints] = []
        self.boards: list[Any] = []
        self.rows: list[list[Row]] = [[] for _ in range(seeds)]
        self.began = time.perf_counter()
        self.earlier_seconds = 0.0  # of the processes that trained this run before

    def train(self, interrupt: Interrupt) -> Outcome:
        """From the last checkpoint, or the beginning, to the last update or a signal."""
        settings = self.settings
        update, saved = self.find_checkpoint()

        def wait(pending: Sequence[str]) -> None:
            interrupt.raise_if_noted()
            self.report.phase(f"compiling the {pending[0]} program")

        programs = build_programs(
            self.agent,
            self.env,
            self.seeds,
            settings.eval_episodes,
            self.episode_length,
            fresh=saved is None,
            wait=wait,
        )
        self.report.say(f"compiled in {programs.compile_seconds:.1f} s")
        state = self.initial(programs) if saved is None else from_host(saved, programs.state)
        shown = self.last_evaluation()
        if saved is not None and update < settings.updates:
            self.write_summaries("running")  # one of before may say that it is completed
        chunk = 1
        while update < settings.updates and interrupt.signum is None:
            count = self.until_stop(update, chunk)
            began = time.perf_counter()
            state, stacked = programs.update(state, jnp.asarray(count, jnp.int32))
            metrics = {name: np.asarray(value) for name, value in stacked.items()}
            seconds = time.perf_counter() - began
            chunk = next_chunk(count, seconds)
            rows = self.rows_of(metrics, update, count, seconds, programs.compile_seconds)
            update += count
            if update % settings.eval_every == 0 or update == settings.updates:
                self.report.phase("evaluating")
                scores = self.evaluate(programs, state, update)
                for row, evaluated in zip(rows, scores, strict=True):
                    row[-1].update(evaluated)
                shown = average(scores) | {"evaluated_at": update}
            self.record(rows)
            self.stop_if_broken(update)
            due = update % settings.checkpoint_every == 0 or update == settings.updates
            if self.folders and (due or self.improved() or interrupt.signum is not None):
                self.save(update, state)
            # Last: Ctrl-C kills the `tee` that reads it as well, and what is said then raises.
            self.report.progress(average([row[-1] for row in rows]) | shown, settings.updates)
        stopped = update < settings.updates
        self.finish(update, f"stopped by {interrupt.name}" if stopped else "completed")
        return Outcome(state, self.rows, interrupt.signum if stopped else None)

    def initial(self, programs: Programs) -> AgentState:
        assert programs.init is not None
        keys = jnp.stack([jax.random.key(number) for number in self.numbers])
        return programs.init(keys if self.seeds > 1 else keys[0])

    def until_stop(self, update: int, chunk: int) -> int:
        """At most `chunk` updates, and not past the next evaluation, checkpoint or the end."""
        settings = self.settings
        stops = [settings.updates - update]
        stops += [
            every - update % every for every in (settings.eval_every, settings.checkpoint_every)
        ]
        return min(chunk, LONGEST_CHUNK, *stops)

    def evaluate(self, programs: Programs, state: AgentState, update: int) -> list[Row]:
        keys = jnp.stack([evaluation_key(number, update) for number in self.numbers])
        metrics = {k: np.asarray(v) for k, v in programs.evaluate(state, keys).items()}
        return [{k: float(v[index]) for k, v in metrics.items()} for index in range(self.seeds)]

    def rows_of(
        self,
        metrics: dict[str, np.ndarray],
        update: int,
        count: int,
        seconds: float,
        compile_seconds: float,
    ) -> list[list[Row]]:
        """The rows of a chunk by seed, from metrics of shape (LONGEST_CHUNK,) or (..., seed)."""
        metrics = {k: v.reshape(LONGEST_CHUNK, self.seeds) for k, v in metrics.items()}
        wall = self.earlier_seconds + time.perf_counter() - self.began
        speed = count * self.agent.steps_per_update / max(seconds, 1e-9)

        def row(index: int, seed: int) -> Row:
            return {
                "update": update + index + 1,
                "env_steps": (update + index + 1) * self.agent.steps_per_update,
                "wall_seconds": round(wall - seconds * (1 - (index + 1) / count), 3),
                "compile_seconds": round(compile_seconds, 3),
                "train/steps_per_second": round(speed, 3),
                **{name: float(value[index, seed]) for name, value in metrics.items()},
            }

        return [[row(index, seed) for index in range(count)] for seed in range(self.seeds)]

    def record(self, rows: Sequence[list[Row]]) -> None:
        for index, new in enumerate(rows):
            self.rows[index].extend(new)
            if self.folders:
                append_metrics(self.folders[index] / "metrics.jsonl", new)
            if self.boards:
                for row in new:
                    for name, value in row.items():
                        if "/" in name:
                            self.boards[index].add_scalar(name, value, row["env_steps"])

    def improved(self) -> bool:
        """Whether the last update was evaluated as the best so far, of any seed."""
        for rows in self.rows:
            scores = [score(row) for row in rows]
            if scores[-1] is not None and scores[-1] == max(s for s in scores if s is not None):
                return True
        return False

    def save(self, update: int, state: AgentState) -> None:
        """Hands the state to orbax, which writes it while training goes on."""
        for checkpoints in self.checkpoints:  # all, before one goes on: they keep one in common
            checkpoints.wait()
        for index, host in enumerate(to_host(state, self.seeds)):
            self.checkpoints[index].save(update, host, score(self.rows[index][-1]))

    def find_checkpoint(self) -> tuple[int, list[HostState] | None]:
        """Opens the folders; the newest update that every seed has a sound checkpoint of.

        Metrics and checkpoints that are later than it are removed: they will be made again.
        """
        for folder, number in zip(self.folders, self.numbers, strict=False):
            settings = dataclasses.replace(self.settings, seed=number)
            self.checkpoints.append(Checkpoints(folder / "checkpoints", settings))
        steps = [set(checkpoints.updates()) for checkpoints in self.checkpoints]
        common = sorted(set.intersection(*steps)) if steps else []
        if not common:
            self.start_over(steps)
        damage: DamagedCheckpoint | None = None
        update, saved = 0, None
        for candidate in reversed(common):
            try:
                saved = [checkpoints.restore(candidate) for checkpoints in self.checkpoints]
                update = candidate
                break
            except DamagedCheckpoint as error:
                self.report.say(f"warning: {error}; trying an earlier one")
                damage = error
        if saved is None and damage is not None:
            raise damage
        for index, folder in enumerate(self.folders):
            self.checkpoints[index].forget_after(update)
            self.rows[index] = truncate_metrics(folder / "metrics.jsonl", update)
            if self.rows[index]:
                self.earlier_seconds = self.rows[index][-1]["wall_seconds"]
        if update:
            self.report.say(f"resuming after update {update}")
        return update, saved

    def start_over(self, steps: Sequence[set[int]]) -> None:
        """Says so where a run was stopped before its first checkpoint.

        Raises:
            RunError: there must have been one, and starting over would remove what there is.
        """
        rows = [read_metrics(folder / "metrics.jsonl") for folder in self.folders]
        done = max(map(last_update, rows), default=0)
        # The first is on disk before the second begins.
        if (steps and all(steps)) or done > 2 * self.settings.checkpoint_every:
            root = self.folders[0] if self.seeds == 1 else self.folders[0].parent
            shared = "" if self.seeds == 1 else " that its seeds have in common"
            raise RunError(f"{root} has {done} updates, and no checkpoint{shared} to go on from")
        if done:
            self.report.say("no checkpoint yet: starting over")

    def last_evaluation(self) -> Row:
        rows = [[r for r in rows if "eval/return_mean" in r][-1:] for rows in self.rows]
        if not all(rows):
            return {}
        last = average([row[0] for row in rows])
        shown = {k: v for k, v in last.items() if k.startswith("eval/")}
        return shown | {"evaluated_at": rows[0][0]["update"]}

    def stop_if_broken(self, update: int) -> None:
        """Raises where no seed has had a finite gradient for many updates."""
        if min(nonfinite_streak(rows[-_BROKEN_UPDATES:]) for rows in self.rows) < _BROKEN_UPDATES:
            return
        self.write_summaries("stopped: dynamics or gradients non-finite")
        raise RunError(
            f"stopped at update {update}: not one environment had finite dynamics and gradients in "
            f"{_BROKEN_UPDATES} updates in a row, or nothing was learned from any; "
            f"try {advice(self.settings)}"
        )

    def finish(self, update: int, status: str) -> None:
        if self.checkpoints:
            self.report.phase("writing the checkpoint")
        for checkpoints in self.checkpoints:
            checkpoints.wait()
        self.write_summaries(status)
        hint = ""
        if self.folders and status != "completed":
            root = self.folders[0] if self.seeds == 1 else self.folders[0].parent
            hint = f"; checkpoint saved, go on by: rpgjax resume {root}"
        self.report.say(f"{status} at update {update} of {self.settings.updates}{hint}")

    def write_summaries(self, status: str) -> None:
        for folder, rows in zip(self.folders, self.rows, strict=False):
            write_json(folder / "summary.json", summarise(rows, status))

    def open_tensorboard(self) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise RunError("--tensorboard needs the package tensorboardX", 2) from error
        self.boards = [SummaryWriter(str(folder / "tensorboard")) for folder in self.folders]

    def close(self) -> None:
        for closable in (*self.checkpoints, *self.boards):
            closable.close()


def advice(settings: TrainSettings) -> str:
    """What may keep dynamics and gradients finite, by the flags that the run has."""
    slower = "actor-" if hasattr(settings.agent, "actor_learning_rate") else ""
    tried = ["a smaller --horizon", f"a lower --{slower}learning-rate"]
    tried += ["another --backend"] if settings.backend else []
    return either(tried)


def smaller(settings: TrainSettings, seeds: int) -> str:
    """What takes less memory, by the flags that the run has."""
    sizes = ("num_envs", "horizon", "batch_size", "replay_size")
    flags = [f"--{name.replace('_', '-')}" for name in sizes if hasattr(settings.agent, name)]
    flags += ["--seeds"] if seeds > 1 else []
    return f"a smaller {either(flags)}" if flags else "smaller sizes"


def either(names: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def next_chunk(count: int, seconds: float) -> int:
    """How many updates fit between two looks, given how long the last ones took."""
    return max(1, min(LONGEST_CHUNK, int(_CHUNK_SECONDS * count / max(seconds, 1e-6)), 4 * count))


def average(rows: Sequence[Row]) -> Row:
    """The mean of rows over seeds; integers (update, env_steps) are the same in all."""
    first = rows[0]
    return {
        name: value if isinstance(value, int) else float(np.mean([row[name] for row in rows]))
        for name, value in first.items()
        if all(row.get(name) is not None for row in rows)
    }
