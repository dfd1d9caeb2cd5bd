"""The command line: parse, call, print. JAX is not imported before a verb needs it."""

import contextlib
import dataclasses
import io
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, TypeVar

import tyro

from rpgjax.training.settings import RunError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """What `train` takes besides the settings and the agent's config."""

    env: str = "ant"  # the task; see `rpgjax list`
    backend: str | None = None  # the physics of a Brax task; the preset's if left out
    out: Path | None = None  # the run folder; a new one in runs/ if left out
    seeds: int = 1  # how many seeds, from --seed on, to train as one program
    x64: bool = False  # compute in float64
    tensorboard: bool = False  # also write TensorBoard event files
    replay: bool = True  # write replay.html at the end


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run that was stopped or killed, bit for bit on a CPU."""

    run: tyro.conf.Positional[Path]  # the run folder
    updates: int | None = None  # a new goal, to train longer than planned
    tensorboard: bool = False  # also write TensorBoard event files
    replay: bool = True  # write replay.html at the end


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """Evaluate a trained policy on whole fresh episodes, deterministic and sampled."""

    run: tyro.conf.Positional[Path]  # the run folder
    episodes: int = 64  # for each of the two policies
    seed: int = 0  # of the episodes
    which: Literal["best", "last"] = "best"  # checkpoint
    json: Path | None = None  # also write the numbers to this file


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    """Write a page with an episode to watch; it opens offline."""

    run: tyro.conf.Positional[Path]  # the run folder
    which: Literal["best", "last"] = "best"  # checkpoint
    out: Path | None = None  # the page; RUN/replay.html if left out


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """Draw learning curves: one run's, or several compared with intervals over seeds."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders
    out: Path | None = None  # the PNG; RUN/learning_curve.png or comparison.png if left out


def train(arguments: list[str]) -> int:
    """Train an algorithm on a task."""
    algorithm = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if algorithm is None:
        if {"-h", "--help"} & set(arguments):
            print(
                "usage: rpgjax train ALGORITHM [--env TASK] [--backend PHYSICS] [--FIELD VALUE]\n"
            )
            print("ALGORITHM and TASK as in `rpgjax list`. Every field of an algorithm is a flag;")
            print("its defaults depend on the task: `rpgjax train rfo --env ant --help`.")
            return 0
        raise RunError("train needs an algorithm, as in `rpgjax train rfo --env ant`", 2)
    _hello(arguments)
    with _quiet():
        from rpgjax.envs.registry import backends
        from rpgjax.presets import preset
        from rpgjax.training import launch
        from rpgjax.training.settings import TrainSettings
    env = _value_of("--env", arguments) or TrainOptions.env
    backend = _value_of("--backend", arguments)
    with _as_usage():
        backends(env)  # an unknown task is said before its preset's flags are parsed
        base = preset(algorithm, env, backend)
    defaults = TrainOptions(env=env, backend=base.backend)
    schedule = [f for f in dataclasses.fields(TrainSettings) if f.name in _SCHEDULE]
    fields: list[Any] = [
        ("options", Annotated[TrainOptions, tyro.conf.arg(name="")], defaults),
        *((f.name, int, getattr(base, f.name)) for f in schedule),
        ("agent", Annotated[type(base.agent), tyro.conf.arg(name="")], base.agent),
    ]
    flat = dataclasses.make_dataclass("Train", fields, frozen=True)
    parsed: Any = _parse(flat, f"train {algorithm}", arguments[1:], f"Train {algorithm} on {env}.")
    options: TrainOptions = parsed.options
    if options.seeds < 1:
        raise RunError(f"--seeds is {options.seeds}; it has to be at least 1", 2)
    if options.x64:
        import jax

        jax.config.update("jax_enable_x64", True)
    with _as_usage():
        numbers = {name: getattr(parsed, name) for name in _SCHEDULE}
        settings = dataclasses.replace(base, **numbers, agent=parsed.agent)
    extra = {"replay": options.replay, "tensorboard": options.tensorboard}
    if options.out is None:
        done = launch.train_in(Path("runs"), settings, seeds=options.seeds, **extra)
    else:
        done = launch.train(settings, out=options.out, seeds=options.seeds, **extra)
    return 128 + done.signum if done.signum is not None else 0


_SCHEDULE = ("seed", "updates", "eval_every", "eval_episodes", "checkpoint_every")


def resume(arguments: list[str]) -> int:
    """Go on with a run that was stopped or killed."""
    options = _parse(ResumeOptions, "resume", arguments)
    _hello(arguments)
    with _quiet():
        from rpgjax.training import launch
    extra = {"replay": options.replay, "tensorboard": options.tensorboard}
    with _as_usage():
        done = launch.resume(options.run, updates=options.updates, **extra)
    return 128 + done.signum if done.signum is not None else 0


def evaluate(arguments: list[str]) -> int:
    """Evaluate a trained policy on whole episodes."""
    options = _parse(EvalOptions, "eval", arguments)
    if options.episodes < 1:
        raise RunError(f"--episodes is {options.episodes}; it has to be at least 1", 2)
    with _quiet():
        from rpgjax.training import launch
        from rpgjax.training.metrics import write_json
    run = launch.load(options.run, options.which)
    metrics = launch.evaluate(run, options.episodes, options.seed)
    found = {"run": str(options.run), "update": run.update, "episodes": options.episodes, **metrics}
    if options.json is not None:
        write_json(options.json, found)
    for name, value in found.items():
        print(f"{name:<38} {value:,.4f}" if isinstance(value, float) else f"{name:<38} {value}")
    return 0


def render(arguments: list[str]) -> int:
    """Write a page with an episode to watch, offline."""
    options = _parse(RenderOptions, "render", arguments)
    with _quiet():
        from rpgjax.training import launch
        from rpgjax.training.programs import enable_compilation_cache
        from rpgjax.training.replay import render as write_replay
    enable_compilation_cache()
    path = options.out or options.run / "replay.html"
    write_replay(launch.load(options.run, options.which), path)
    print(f"wrote {path}")
    return 0


def plot(arguments: list[str]) -> int:
    """Draw learning curves of one run, or of several."""
    options = _parse(PlotOptions, "plot", arguments)
    if not options.runs:
        raise RunError("plot needs at least one run folder", 2)
    with _quiet():
        from rpgjax.training.figures import comparison, learning_curve
        from rpgjax.training.metrics import read_metrics
    first = options.runs[0]
    single = len(options.runs) == 1
    path = options.out or (first / "learning_curve.png" if single else Path("comparison.png"))
    if single and (first / "metrics.jsonl").exists():
        learning_curve(read_metrics(first / "metrics.jsonl"), path, title=first.resolve().name)
    else:
        comparison(options.runs, path)
    print(f"wrote {path}")
    return 0


def show(arguments: list[str]) -> int:
    """List tasks, their physics backends, and algorithms."""
    _parse(_Nothing, "list", arguments)
    with _quiet():
        from rpgjax.agents import AGENTS
        from rpgjax.envs.registry import backends, names
    print("algorithms:", " ".join(AGENTS))
    print("tasks and their physics backends, the default first:")
    for name in names():
        print(f"  {name:<28} {' '.join(backends(name)) or '-'}")
    return 0


def bench(arguments: list[str]) -> int:
    """Time training against Brax's own analytic policy gradient."""
    with _quiet():
        from rpgjax.training.bench import main as bench_main
    # A function's arguments as flags; its own ValueErrors speak of them.
    call = _parse_function(bench_main, "bench", arguments)
    with _as_usage():
        call()
    return 0


@dataclasses.dataclass(frozen=True)
class _Nothing:
    """List tasks, their physics backends, and algorithms."""


class Verb(NamedTuple):
    """A word after `rpgjax`."""

    run: Callable[[list[str]], int]  # arguments to exit status
    help: str


VERBS = {
    "train": Verb(train, "train an algorithm on a task"),
    "resume": Verb(resume, "go on with a run that was stopped or killed"),
    "eval": Verb(evaluate, "evaluate a trained policy on whole episodes"),
    "render": Verb(render, "write a page with an episode to watch, offline"),
    "plot": Verb(plot, "draw learning curves of one run, or of several"),
    "list": Verb(show, "list tasks, their physics backends, and algorithms"),
    "bench": Verb(bench, "time training against Brax's own analytic policy gradient"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status. Errors are one line on stderr.

    Args:
        arguments: without the program's name; None takes the process's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # XLA's notes on stderr, about cached programs for example, are not for users.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        if not given or given[0] in ("-h", "--help", "help"):
            print(_usage())
            return 0 if given else 2
        if given[0] not in VERBS:
            raise RunError(f"unknown verb {given[0]!r}: choose from {', '.join(VERBS)}", 2)
        return VERBS[given[0]].run(given[1:])
    except RunError as error:
        print(f"rpgjax: error: {error}", file=sys.stderr, flush=True)
        return error.status
    except KeyboardInterrupt:
        print("rpgjax: stopped by SIGINT", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:  # `| head`: nobody reads on, which is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as error:  # --help
        return error.code if isinstance(error.code, int) else 2


def run() -> NoReturn:
    """The program `rpgjax`."""
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name.startswith("rpgjax-compile") for thread in threading.enumerate()):
        os._exit(status)  # a compilation cannot be stopped, and nothing waits for its outcome
    sys.exit(status)


def _usage() -> str:
    lines = [f"  {name:<8} {verb.help}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: rpgjax VERB ...",
            "",
            "Policies trained through differentiable dynamics.",
            "",
            *lines,
            "",
            "Each verb has --help. To start: rpgjax train rfo --env pendulum",
        ]
    )


def _hello(arguments: list[str]) -> None:
    """Says at once that something happens: importing takes seconds."""
    if not {"-h", "--help"} & set(arguments):
        print("rpgjax: loading JAX and Brax ...", flush=True)


def _quiet() -> contextlib.AbstractContextManager[None]:
    from rpgjax.envs.quiet import quiet_brax

    return quiet_brax()


def _value_of(flag: str, arguments: list[str]) -> str | None:
    """What follows a flag, if it is there: `--env ant` or `--env=ant`; the last one counts."""
    found = None
    for index, argument in enumerate(arguments):
        if argument == flag and index + 1 < len(arguments):
            found = arguments[index + 1]
        elif argument.startswith(f"{flag}="):
            found = argument.removeprefix(f"{flag}=")
    return found


@contextlib.contextmanager
def _as_usage() -> Any:
    """A ValueError about what was asked for becomes one line and exit status 2."""
    try:
        yield
    except ValueError as error:
        raise RunError(" ".join(str(error).split()), 2) from error


def _parse(kind: Callable[..., T], verb: str, arguments: list[str], about: str | None = None) -> T:
    """Parses arguments into a dataclass; what is wrong with them is one line."""
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(kind, prog=f"rpgjax {verb}", args=arguments, description=about)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise RunError(f"{one_line(captured.getvalue())} (see rpgjax {verb} --help)", 2) from stop


def _parse_function(
    function: Callable[..., None], verb: str, arguments: list[str]
) -> Callable[[], None]:
    """A function bound to its parsed arguments, not called yet."""
    import functools
    import inspect

    @functools.wraps(function)
    def bind(**values: Any) -> Callable[[], None]:
        return functools.partial(function, **values)

    bind.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return _parse(bind, verb, arguments)


def one_line(box: str) -> str:
    """The message in one of tyro's error boxes, with its first suggestion."""
    inner = [line.strip("│ ").strip() for line in box.splitlines() if line.startswith("│")]
    if not inner:  # no box where the encoding has no lines to draw it: a title and a rule instead
        inner = [line.strip() for line in box.splitlines()]
        inner = inner[2:] if len(inner) > 1 and set(inner[1]) == {"-"} else inner
    text = [line for line in inner if line]
    rules = [index for index, line in enumerate(text) if set(line) <= {"─", "-"}]
    message = " ".join(text[: rules[0]] if rules else text) or " ".join(box.split())
    if "Perhaps you meant:" in text:
        following = text[text.index("Perhaps you meant:") + 1 :]
        if following and (option := re.match(r"--[\w-]+", following[0])):
            message += f"; perhaps you meant {option.group()}"
    return message


if __name__ == "__main__":
    run()
