"""Learning curves, of one run and of many."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rpgjax.training.metrics import Row, column, read_metrics
from rpgjax.training.runs import setting_values
from rpgjax.training.settings import SCHEDULE, RunError

# Okabe and Ito's palette, readable without colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def learning_curve(rows: Sequence[Row], path: Path, title: str = "") -> None:
    """Draws a run's returns (both policies) and gradient norm over environment steps, as a PNG."""
    figure, (top, bottom) = _axes(2)
    curves = (("deterministic", "eval/return"), ("sampled", "eval/stochastic_return"))
    for colour, (label, name) in zip(_COLOURS, curves, strict=False):
        steps, mean = column(rows, "env_steps", f"{name}_mean")
        _, std = column(rows, "env_steps", f"{name}_std")
        top.plot(steps, mean, color=colour, label=label, marker="." if len(steps) < 40 else None)
        if len(std) == len(mean):
            low, high = np.subtract(mean, std), np.add(mean, std)
            top.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    top.set_ylabel("episode return\n(mean, std over episodes)")
    top.legend(frameon=False)
    top.set_title(title)
    steps, norms = column(rows, "env_steps", "train/grad_norm")
    bottom.plot(steps, norms, color="#666666", linewidth=0.8)
    if norms and min(norms) > 0:
        bottom.set_yscale("log")
    bottom.set_ylabel("gradient norm")
    bottom.set_xlabel("environment steps")
    _save(figure, path)


def comparison(runs: Sequence[Path], path: Path) -> int:
    """Draws the deterministic return of runs over steps: the mean over seeds, and an interval.

    Runs that differ in nothing but the seed, and in the number that a name that was taken gets, are one
    curve; a folder of several seeds counts as all of them. The interval is the mean's 95% interval
    (Student's t) where there are two or more.

    Returns:
        How many curves were drawn.

    Raises:
        RunError: a folder holds no run, or none has been evaluated.
    """
    figure, (axis,) = _axes(1)
    drawn = 0
    for index, (label, folders) in enumerate(_curves(runs)):
        rows = [read_metrics(folder / "metrics.jsonl") for folder in folders]
        members = [one for one in rows if column(one, "env_steps", "eval/return_mean")[0]]
        steps, returns = aligned(members)
        if not steps.size:
            continue
        colour, count = _COLOURS[index % len(_COLOURS)], returns.shape[0]
        name = label if len(rows) == 1 else f"{label} ({_seeds(count, len(rows))})"
        mean, half = returns.mean(axis=0), interval(returns)
        axis.plot(steps, mean, color=colour, label=name, marker="." if steps.size < 40 else None)
        axis.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
        drawn += 1
    if not drawn:
        raise RunError("nothing to plot: no run has been evaluated yet")
    axis.set_ylabel("episode return, deterministic policy\n(mean over seeds, 95% interval)")
    axis.set_xlabel("environment steps")
    axis.legend(frameon=False)
    _save(figure, path)
    return drawn


def _seeds(count: int, total: int) -> str:
    return f"{total} seeds" if count == total else f"{count} of {total} seeds, others not evaluated"


def aligned(members: Sequence[Sequence[Row]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n,) at which every run was evaluated, and the returns there, (run, n)."""
    curves = [
        dict(zip(*column(rows, "env_steps", "eval/return_mean"), strict=True)) for rows in members
    ]
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    return np.array(steps), np.array([[curve[step] for step in steps] for curve in curves])


def interval(returns: np.ndarray) -> np.ndarray:
    """Half the width of the mean's 95% interval over runs: (run, n) to (n,). Zero for one run."""
    count = returns.shape[0]
    if count < 2:
        return np.zeros(returns.shape[1])
    from scipy.stats import t  # a dependency of jax

    quantile = float(t.ppf(0.975, count - 1))
    return quantile * returns.std(axis=0, ddof=1) / np.sqrt(count)


def _single(run: Path) -> list[Path]:
    """The folders with metrics: the run's own, or those of its seeds."""
    if (run / "metrics.jsonl").exists():
        return [run]
    found = sorted(run.glob("seed-*/metrics.jsonl"), key=lambda file: file.parent.name)
    if not found:
        raise RunError(f"{run} holds no metrics", status=2)
    return [file.parent for file in found]


def _curves(runs: Sequence[Path]) -> list[tuple[str, list[Path]]]:
    """Labels and folders: those of one curve have the same settings, and each a seed of its own."""
    groups: dict[tuple[str, str], list[dict[Any, Path]]] = {}
    for folder in (one for run in runs for one in _single(run)):
        values = setting_values(folder)
        trained = {k: v for k, v in values.items() if k not in ("seed", *SCHEDULE)}
        curves = groups.setdefault(
            (_label(folder, values), json.dumps(trained, sort_keys=True)), [{}]
        )
        seed = values.get("seed", folder)
        if all(seed in curve for curve in curves):
            curves.append({})
        next(curve for curve in curves if seed not in curve)[seed] = folder
    found = [(label, [*c.values()]) for (label, _), curves in groups.items() for c in curves]
    labels = [label for label, _ in found]
    return [
        (label if labels.count(label) == 1 else f"{label} ({folders[0]})", folders)
        for label, folders in found
    ]


def _label(folder: Path, values: dict[str, Any]) -> str:
    if not values:
        return folder.name
    label = " ".join(str(values[k]) for k in ("algorithm", "env", "backend") if values.get(k))
    return label + _distinction(folder, values)


def _distinction(folder: Path, values: dict[str, Any]) -> str:
    """What tells a run from another of the same task: the folder's name, less its seed."""
    name = folder.parent.name if folder.name.startswith("seed-") else folder.name
    for part in (values.get("algorithm"), values.get("env"), values.get("backend")):
        name = name.replace(str(part), "") if part else name
    name = re.sub(r"(^|(?<=[-_]))seed\d+(?=$|[-_])", "", name).strip("-_ ")
    return f" {name}" if name and not name.isdigit() else ""


def gradient_quality(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws one gradcheck: norms, and the cosine with finite steps, over the horizon, as a PNG."""
    figure, (top, bottom) = _axes(2)
    at = [row["horizon"] for row in rows]
    kinds = (("largest", "max"), ("90 %", "p90"), ("median", "median"))
    for colour, (label, name) in zip(_COLOURS, kinds, strict=False):
        norms = [row[f"grad_norm_{name}"] or np.nan for row in rows]  # no zeros on a log scale
        top.plot(at, norms, color=colour, label=label, marker=".")
    some = any(row["grad_norm_max"] for row in rows)
    top.set(xscale="log", yscale="log" if some else "linear", ylabel="gradient norm")
    top.set_title(f"{rows[0]['env']} ({rows[0]['backend']})")
    top.legend(frameon=False, title="of the environments")
    cosines = [np.nan if (c := row["smoothed_cosine"]) is None else c for row in rows]
    bottom.plot(at, cosines, color="#666666", marker=".")
    bottom.set(xscale="log", xlabel="horizon", ylim=(-0.1, 1.05))
    bottom.set_ylabel("cosine with the slope\nof finite steps")
    for axis in (top, bottom):
        axis.set_xticks(at, [str(horizon) for horizon in at])
        axis.minorticks_off()
    _save(figure, path)


def _axes(rows: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(7.5, 3.2 * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=130)
