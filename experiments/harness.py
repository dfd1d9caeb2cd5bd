"""What the experiments share: variants of presets, trained over seeds, drawn and tabulated.

An experiment's script makes an `Experiment` and calls `main`. Each variant trains its seeds as one
program and leaves `results/VARIANT.json`: settings, versions, machine and every seed's evaluations.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from rpgjax.training.metrics import write_whole

CURVES = ("eval/return_mean", "eval/stochastic_return_mean")
KEPT = ("env_steps", *CURVES, "eval/episode_length_mean")
KEPT_IF_THERE = ("train/horizon", "train/growth_max")  # what an adaptive horizon did


class Variant(NamedTuple):
    """A preset with some fields changed."""

    algorithm: str
    label: str
    updates: int
    changes: dict[str, Any] = {}  # noqa: RUF012 (a constant)


class Experiment(NamedTuple):
    """Variants on one task, and the figures that compare them."""

    folder: Path
    env: str
    backend: str
    seeds: int
    variants: dict[str, Variant]
    figures: dict[str, tuple[str, ...]]  # file name to variants
    table_at: tuple[int, ...]  # environment steps that the table reports
    also_on: tuple[str, ...] = ()  # backends on which the trained policies are evaluated, unchanged

    def results(self, name: str, first_seed: int = 0) -> Path:
        """Where a variant's numbers are, of the seeds from `first_seed` on."""
        further = f"-seeds{first_seed}" if first_seed else ""
        return self.folder / "results" / f"{name}{further}.json"


def run(experiment: Experiment, name: str, first_seed: int = 0) -> Any:
    """Trains one variant's seeds, writes their results and returns the run.

    Raises:
        SystemExit: a first seed that would make some seeds come twice, or a signal stopped the run.
    """
    import rpgjax

    if first_seed % experiment.seeds:
        raise SystemExit(f"--first-seed has to be a multiple of {experiment.seeds}")
    variant = experiment.variants[name]
    print(f"== {name}", flush=True)
    done = rpgjax.train(
        variant.algorithm,
        env=experiment.env,
        backend=experiment.backend,
        seed=first_seed,
        seeds=experiment.seeds,
        updates=variant.updates,
        replay=False,
        **variant.changes,
    )
    require_whole(done)
    content = provenance(done) | {
        "wall_seconds_for_all_seeds": done.rows[0][-1]["wall_seconds"],
        "compile_seconds": done.rows[0][-1]["compile_seconds"],
        "seeds": [learning_curves(rows) for rows in done.rows],
        "elsewhere": {backend: elsewhere(done, backend) for backend in experiment.also_on},
    }
    write(experiment.results(name, first_seed), content, indent=1)
    return done


def require_whole(run: Any) -> None:
    """What was stopped halfway is no result.

    Raises:
        SystemExit: a signal stopped the run.
    """
    if run.signum is not None:
        raise SystemExit(128 + run.signum)


def learning_curves(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What results keep of a seed's metrics."""
    evaluated = [row for row in rows if CURVES[0] in row]
    keys = (*KEPT, *(key for key in KEPT_IF_THERE if key in evaluated[0]))
    curves: dict[str, Any] = {key: [row[key] for row in evaluated] for key in keys}
    worst = max(row["train/nonfinite_fraction"] for row in rows)
    return curves | {"train/nonfinite_fraction_max": worst}


def elsewhere(run: Any, backend: str, episodes: int = 64) -> dict[str, list[float]]:
    """Evaluations (seed,) of a run's policies on other physics."""
    import jax

    from rpgjax.training.evaluate import evaluator
    from rpgjax.training.launch import on_backend

    there = on_backend(run, backend).env
    program = jax.jit(evaluator(run.agent, there, episodes, run.episode_length))
    keys = jax.random.split(jax.random.key(run.settings.seed), len(run.rows))
    metrics = program(run.state, keys)
    return {key: np.asarray(metrics[key]).tolist() for key in KEPT if key in metrics}


def one_seed(folder: Path, algorithm: str, env: str, settings: dict[str, Any]) -> Any:
    """A run of one seed in a folder of its own, from the start or from where it was stopped.

    Raises:
        SystemExit: it was stopped again, and goes on next time; or the folder's run is another.
    """
    import rpgjax
    from rpgjax.training.build import resolve
    from rpgjax.training.launch import configuration
    from rpgjax.training.settings import settings_to_json

    print(f"== {folder.name}", flush=True)
    if (folder / "config.json").exists():
        wanted = settings_to_json(resolve(algorithm, env, None, settings))
        if settings_to_json(configuration(folder).settings) != wanted:
            raise SystemExit(f"{folder} holds a run of other settings: move it away")
        done = rpgjax.resume(folder, replay=False)
    else:
        done = rpgjax.train(algorithm, env=env, out=folder, replay=False, **settings)
    require_whole(done)
    return done


def together(
    env: Any, settings: Any, agent_of: Any, members: list[tuple[int, dict[str, float]]], every: int
) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Trains runs of one configuration as one program, each with a seed and some values of its own.

    Yields stages (`rpgjax.training.population`), and for each member where its numbers come from and cost.
    """
    from rpgjax.training.population import population
    from rpgjax.training.runs import origin
    from rpgjax.training.settings import settings_to_json

    config, seeds = settings.agent, [seed for seed, _ in members]
    varied = {
        field: [float(own.get(field, getattr(config, field))) for _, own in members]
        for field in sorted({field for _, own in members for field in own})
    }
    made = partial(agent_of, env)
    steps_per_update, where = made(config).steps_per_update, origin()
    for stage in population(made, config, seeds, varied, settings.updates, every):
        env_steps = stage.update * steps_per_update
        contents = []
        for member, seed in enumerate(seeds):
            own = {field: values[member] for field, values in varied.items()}
            changes = {"seed": seed, "updates": stage.update, "agent": replace(config, **own)}
            contents.append(
                {"settings": settings_to_json(replace(settings, **changes))}
                | where
                | {
                    "members": len(members),
                    "wall_seconds": stage.seconds,
                    "steps_per_second": len(members) * env_steps / stage.seconds,
                }
            )
        yield stage, contents


def replayed(run: Any) -> Any:
    """All that a run with a world model saw, from its replay buffer: fields (environment, T, ...)."""
    import jax

    replay = run.state.replay
    count = steps_held(replay)
    return jax.tree.map(lambda x: np.asarray(x[:, :count]), replay.experience)


def steps_held(replay: Any) -> int:
    """How many steps of every environment a replay buffer holds, or each member's: all so far."""
    if np.any(replay.is_full):
        raise SystemExit("the replay buffer forgot where training began: raise replay_size")
    return int(np.max(replay.current_index))


def first_visits(cells: np.ndarray, shape: tuple[int, ...], when: np.ndarray) -> np.ndarray:
    """When each cell of a grid was first entered, flat; inf: never.

    Args:
        cells: indices in the grid (..., n).
        shape: of the grid, (n,).
        when: broadcasts to (...).
    """
    numbers = np.ravel_multi_index(tuple(np.moveaxis(cells, -1, 0)), shape)
    first = np.full(np.prod(shape), np.inf)
    np.minimum.at(first, numbers, when)
    return first


def provenance(run: Any) -> dict[str, Any]:
    """Where a run's numbers come from."""
    from rpgjax.training.runs import origin
    from rpgjax.training.settings import settings_to_json

    return {"settings": settings_to_json(run.settings)} | origin()


def cost(run: Any) -> dict[str, float]:
    """What a run of one seed took."""
    rates = [row["train/steps_per_second"] for row in run.rows[0]]
    return {
        "wall_seconds": run.rows[0][-1]["wall_seconds"],
        "steps_per_second": float(np.median(rates)),
    }


def write(path: Path, content: dict[str, Any], indent: int | None = None) -> None:
    """Keeps results, on one line unless they are indented."""
    path.parent.mkdir(exist_ok=True)
    write_whole(path, lambda file: file.write_text(json.dumps(content, indent=indent) + "\n"))


def read_seeds(pattern: Path) -> list[dict[str, Any]]:
    """What the seeds' files say, one object each; `*` in the file's name stands for the seed."""
    return [json.loads(file.read_text()) for file in sorted(pattern.parent.glob(pattern.name))]


def found(experiment: Experiment, name: str) -> list[dict[str, Any]]:
    """What a variant's files say, of its first seeds and of further ones."""
    first = experiment.results(name)
    return read_seeds(first) + read_seeds(first.with_name(f"{name}-seeds*.json"))


def curves(experiment: Experiment, name: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps (evaluation,) and values (seed, evaluation)."""
    seeds = [seed for content in found(experiment, name) for seed in content["seeds"]]
    return np.array(seeds[0]["env_steps"]), np.array([seed[key] for seed in seeds])


def draw(experiment: Experiment, figure: str) -> None:
    """Mean and range over the seeds, deterministic and stochastic evaluation side by side."""
    names = [n for n in experiment.figures[figure] if experiment.results(n).exists()]
    if len(names) < min(2, len(experiment.figures[figure])):
        return  # nothing to compare yet
    picture, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    for axis, key, title in zip(axes, CURVES, ("deterministic", "stochastic"), strict=True):
        for name in names:
            steps, values = curves(experiment, name, key)
            label = f"{experiment.variants[name].label} ({len(values)})"
            (line,) = axis.plot(steps / 1e6, values.mean(0), label=label)
            low, high = values.min(0), values.max(0)
            axis.fill_between(steps / 1e6, low, high, color=line.get_color(), alpha=0.2)
        axis.set(xlabel="environment steps (millions)", title=f"{title} policy")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("return of an episode")
    handles, labels = axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    task = f"{experiment.env.capitalize()} ({experiment.backend})"
    picture.suptitle(f"Brax {task}: mean and range over seeds (how many)")
    picture.savefig(experiment.folder / f"{figure}.png", dpi=110)
    plt.close(picture)


def table(experiment: Experiment) -> str:
    """A Markdown row for each variant with results: mean over seeds, [lowest, highest]."""
    columns = [(steps, key) for steps in experiment.table_at for key in CURVES]
    rows, titles = [], []
    for name, variant in experiment.variants.items():
        if not experiment.results(name).exists():
            continue
        titles = [
            f"{'stochastic' if key == CURVES[1] else 'deterministic'}, {steps / 1e6:.2f}M"
            for steps, key in columns
        ]
        changes = {k: v for k, v in variant.changes.items() if k != "eval_every"}
        changed = ", ".join(f"{k}={v}" for k, v in changes.items()) or "preset"
        cells = [cell(*curves(experiment, name, key), steps) for steps, key in columns]
        rows.append(f"| {variant.label} | {changed} | {' | '.join(cells)} |")
    head = [f"| variant | changed | {' | '.join(titles)} |", "|---" * (len(titles) + 2) + "|"]
    return "\n".join(head + rows)


def cell(steps: np.ndarray, values: np.ndarray, at: int) -> str:
    """Mean and range of values (seed, evaluation) at the evaluation after `at` environment steps."""
    where = np.flatnonzero(steps == at)
    if not where.size:
        return ""
    return spread(values[:, where[0]])


def spread(values: Any, digits: int = 0) -> str:
    """Mean and range of seeds."""
    mean, low, high = (f"{x:.{digits}f}" for x in (np.mean(values), np.min(values), np.max(values)))
    return f"{mean} [{low}, {high}]"


def report(experiment: Experiment) -> None:
    """Figures beside the script, the table on the screen and between the marks in README.md."""
    for figure in experiment.figures:
        draw(experiment, figure)
    fill_readme(experiment.folder, table(experiment))


def fill_readme(folder: Path, text: str, mark: str = "results") -> None:
    """Prints a table and puts it between the marks in the folder's README.md."""
    readme = folder / "README.md"
    opens, closes = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, opened, rest = readme.read_text().partition(opens)
    _, closed, after = rest.partition(closes)
    if not (opened and closed):
        raise SystemExit(f"{readme} has no place for results between {opens} and {closes}")
    readme.write_text(f"{before}{opens}\n{text}\n{closes}{after}")
    print(text)


def main(experiment: Experiment, description: str) -> None:
    """The script of an experiment: trains what has no results yet, then reports."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("variants", nargs="*", help=f"of {', '.join(experiment.variants)}")
    parser.add_argument("--report", action="store_true", help="draw only")
    parser.add_argument("--first-seed", type=int, default=0, help="above 0: further seeds")
    arguments = parser.parse_args()
    if unknown := set(arguments.variants) - set(experiment.variants):
        parser.error(f"unknown variants: {', '.join(sorted(unknown))}")
    if not arguments.report:
        first = arguments.first_seed
        missing = [n for n in experiment.variants if not experiment.results(n, first).exists()]
        for name in arguments.variants or missing:
            run(experiment, name, first)
    report(experiment)


def measure_each(
    file: Path,
    variants: dict[str, Any],
    measure: Callable[[Any], dict[str, Any]],
    table: Callable[[dict[str, dict[str, Any]]], str],
    mark: str,
    description: str,
) -> None:
    """The script of a small experiment, whose results are one file.

    Args:
        file: where they are; the README is in the folder above.
        variants: by name, what `measure` is given.
        measure: called for what `file` does not have yet.
        table: Markdown of all results by name.
        mark: of the README's place for it.
        description: of `--help`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--report", action="store_true", help="only the table")
    arguments = parser.parse_args()
    results = json.loads(file.read_text()) if file.exists() else {}
    for name, variant in {} if arguments.report else variants.items():
        if name not in results:
            print(f"== {name}", flush=True)
            results[name] = measure(variant)
            write(file, results, indent=1)
    fill_readme(file.parents[1], table(results), mark)
