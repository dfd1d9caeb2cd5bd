"""The command line: parse, call, print. JAX is not imported before a verb needs it."""

import contextlib
import dataclasses
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import tyro

from rpgjax.arguments import as_usage, parse, parse_function, value_of
from rpgjax.options import (
    EvalOptions,
    GradcheckOptions,
    ListOptions,
    PlotOptions,
    RenderOptions,
    ResumeOptions,
    TrainOptions,
)
from rpgjax.training.settings import RunError


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
    env = value_of("--env", arguments) or TrainOptions.env
    backend = value_of("--backend", arguments)
    with as_usage():
        backends(env)  # an unknown task is said before its preset's flags are parsed
        base = preset(algorithm, env, backend)
    defaults = TrainOptions(env=env, backend=base.backend)
    fields: list[Any] = [
        ("options", Annotated[TrainOptions, tyro.conf.arg(name="")], defaults),
        *(
            (name, Annotated[int, tyro.conf.arg(help=text)], getattr(base, name))
            for name, text in _SCHEDULE.items()
        ),
        ("agent", Annotated[type(base.agent), tyro.conf.arg(name="")], base.agent),
    ]
    flat = dataclasses.make_dataclass("Train", fields, frozen=True)
    parsed: Any = parse(flat, f"train {algorithm}", arguments[1:], f"Train {algorithm} on {env}.")
    options: TrainOptions = parsed.options
    if options.seeds < 1:
        raise RunError(f"--seeds is {options.seeds}; it has to be at least 1", 2)
    if options.x64:
        import jax

        jax.config.update("jax_enable_x64", True)
    with as_usage():
        numbers = {name: getattr(parsed, name) for name in _SCHEDULE}
        settings = dataclasses.replace(base, **numbers, agent=parsed.agent)
    extra = {"replay": options.replay, "tensorboard": options.tensorboard}
    if options.out is None:
        done = launch.train_in(Path("runs"), settings, seeds=options.seeds, **extra)
    else:
        done = launch.train(settings, out=options.out, seeds=options.seeds, **extra)
    return 128 + done.signum if done.signum is not None else 0


_SCHEDULE = {  # fields of the settings that are flags, and what their help says
    "seed": "of everything that is drawn; the first of several",
    "updates": "of the agent, until the end",
    "eval_every": "updates between evaluations",
    "eval_episodes": "whole episodes in an evaluation, for each of the two policies",
    "checkpoint_every": "updates between checkpoints",
}


def resume(arguments: list[str]) -> int:
    """Go on with a run that was stopped or killed."""
    options = parse(ResumeOptions, "resume", arguments)
    _hello(arguments)
    with _quiet():
        from rpgjax.training import launch
    extra = {"replay": options.replay, "tensorboard": options.tensorboard}
    with as_usage():
        done = launch.resume(options.run, updates=options.updates, **extra)
    return 128 + done.signum if done.signum is not None else 0


def evaluate(arguments: list[str]) -> int:
    """Evaluate a trained policy on whole episodes."""
    options = parse(EvalOptions, "eval", arguments)
    if options.episodes < 1:
        raise RunError(f"--episodes is {options.episodes}; it has to be at least 1", 2)
    with _quiet():
        from rpgjax.training import launch
        from rpgjax.training.metrics import check_can_write, write_json
    with as_usage():
        check_can_write(options.json)
    run = launch.load(options.run, options.which)
    if options.backend is not None:
        run = launch.on_backend(run, options.backend)
    metrics = launch.evaluate(run, options.episodes, options.seed)
    found = {
        "run": str(options.run),
        "update": run.update,
        "backend": options.backend or run.settings.backend or "-",
        "episodes": options.episodes,
        **metrics,
    }
    if options.json is not None:
        write_json(options.json, found)
    for name, value in found.items():
        print(f"{name:<38} {value:,.4f}" if isinstance(value, float) else f"{name:<38} {value}")
    return 0


def render(arguments: list[str]) -> int:
    """Write a page with an episode to watch, offline."""
    options = parse(RenderOptions, "render", arguments)
    if options.out is not None and options.out.suffix == ".png":
        raise RunError(
            f"--out is the page: {options.out.with_suffix('.html')} (stills beside it)", 2
        )
    with _quiet():
        from rpgjax.training import launch
        from rpgjax.training.metrics import check_can_write
        from rpgjax.training.programs import enable_compilation_cache
        from rpgjax.training.replay import render as write_replay
    enable_compilation_cache()
    path = options.out or options.run / "replay.html"
    with as_usage():
        check_can_write(options.out)
        run = launch.load(options.run, options.which)
        check_can_write(path)
        write_replay(run, path)
    print(f"wrote {path}")
    return 0


def plot(arguments: list[str]) -> int:
    """Draw learning curves of one run, or of several."""
    options = parse(PlotOptions, "plot", arguments)
    if not options.runs:
        raise RunError("plot needs at least one run folder", 2)
    with _quiet():
        from rpgjax.training.figures import comparison, learning_curve
        from rpgjax.training.metrics import check_can_write, read_metrics
        from rpgjax.training.runs import setting_values
    first = options.runs[0]
    single = len(options.runs) == 1
    path = options.out or (first / "learning_curve.png" if single else Path("comparison.png"))
    with as_usage():
        check_can_write(options.out)
        if rows := read_metrics(first / "metrics.jsonl") if single else []:
            learning_curve(rows, path, title=first.resolve().name)
        else:
            comparison(options.runs, path)
    print(f"wrote {path}")
    latents = first / "latents.png"
    if options.out is not None:  # beside it, under a name that no other run's picture has
        latents = path.with_name(f"{path.stem}-latents.png")
    has_latent = setting_values(first).get("agent", {}).get("latent_size")
    if single and has_latent and (first / "checkpoints").is_dir():
        with _quiet():  # only here: importing Brax takes seconds
            from rpgjax.training import launch
            from rpgjax.training.latent_figures import draw as draw_latents
        try:
            run = launch.load(first, "last")
        except RunError as error:  # of a task of one's own, which only its program can make
            print(f"no {latents.name}: {error}")
            return 0
        draw_latents(run, latents)
        print(f"wrote {latents}")
    return 0


def gradcheck(arguments: list[str]) -> int:
    """Measure how good a task's gradient is, and what it costs."""
    options = parse(GradcheckOptions, "gradcheck", arguments)
    _hello(arguments)
    with _quiet():
        from rpgjax import gradcheck as check
        from rpgjax.envs import registry
        from rpgjax.training import launch
        from rpgjax.training.figures import gradient_quality
        from rpgjax.training.metrics import check_can_write, write_json
    env, backend, policy = options.env, options.backend, None
    with as_usage():
        check_can_write(options.json, options.figure)
        if options.run is not None:
            if {"--env", "--backend"} & {argument.split("=")[0] for argument in arguments}:
                raise ValueError("--run brings its own task and physics: leave --env and --backend")
            run = launch.load(options.run)
            env, backend, policy = run.settings.env, run.settings.backend, run.policy
        known = registry.backends(env)
        backend = backend or (known[0] if known else None)
        name = (
            f"{env}-{backend or 'analytic'}" if options.run is None else options.run.resolve().name
        )
        path = options.figure or Path(f"gradcheck-{name}.png")
        check_can_write(path)
        rows = check.gradcheck(
            lambda: registry.make(env, backend),
            env,
            backend or "-",
            options.horizon,
            options.num_envs,
            options.seed,
            policy,
            say=lambda text: print(text, flush=True),
        )
    if options.json is not None:
        write_json(options.json, check.to_json(rows))
    check.report(rows)
    with as_usage():
        gradient_quality(check.to_json(rows), path)
    print(f"wrote {path}")
    return 0


def show(arguments: list[str]) -> int:
    """List tasks, their physics backends, and algorithms."""
    parse(ListOptions, "list", arguments)
    with _quiet():
        from rpgjax.agents import AGENTS
        from rpgjax.envs.registry import backends, names
    print("algorithms:", " ".join(AGENTS))
    print("tasks and their physics backends, the default first:")
    for name in names():
        print(f"  {name:<28} {' '.join(backends(name)) or '-'}")
    return 0


def bench(arguments: list[str]) -> int:
    """Time training against Brax's own analytic policy gradient, and RPG's world model."""
    with _quiet():
        from rpgjax.training.bench import main as bench_main
    # A function's arguments as flags; its own ValueErrors speak of them.
    call = parse_function(bench_main, "bench", arguments)
    with as_usage():
        call()
    return 0


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
    "gradcheck": Verb(gradcheck, "measure the quality and the cost of a task's gradient"),
    "bench": Verb(
        bench, "time training against Brax's analytic policy gradient, and RPG's world model"
    ),
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
    except OSError as error:  # a full disk, somebody else's folder
        where = f": {error.filename}" if error.filename else ""
        print(f"rpgjax: error: {error.strerror or error}{where}", file=sys.stderr, flush=True)
        return 1
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
    lines = [f"  {name:<9} {verb.help}" for name, verb in VERBS.items()]
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


if __name__ == "__main__":
    run()
