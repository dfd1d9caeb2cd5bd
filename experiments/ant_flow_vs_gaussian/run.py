"""RFO against SHAC, SAPO and APG on Brax Ant (spring), and what each part of RFO does.

    python experiments/ant_flow_vs_gaussian/run.py            everything that has no results yet
    python experiments/ant_flow_vs_gaussian/run.py rfo shac   only these
    python experiments/ant_flow_vs_gaussian/run.py --report   only the figures and the table

Every variant trains three seeds as one program, for the same number of environment steps, and leaves
`results/VARIANT.json`: the settings, the versions and each seed's evaluations.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SEEDS = 3
STEPS_PER_UPDATE = 64 * 32  # environments x horizon, the same for every variant
FULL, ABLATION = 340, 240  # updates: 0.70M and 0.49M environment steps
CURVES = ("eval/return_mean", "eval/stochastic_return_mean")


class Variant(NamedTuple):
    """A preset with some fields changed."""

    algorithm: str
    label: str
    changes: dict[str, Any] = {}  # noqa: RUF012 (a constant)
    updates: int = ABLATION


CONSTANT = {"regularizer_floor": 1.0}
VARIANTS = {
    "rfo": Variant("rfo", "RFO", updates=FULL),
    "shac": Variant("shac", "SHAC", updates=FULL),
    "sapo": Variant("sapo", "SAPO", updates=FULL),
    "apg": Variant("apg", "APG", updates=FULL),
    "flow_steps_1": Variant("rfo", "K = 1", {"flow_steps": 1}),
    "flow_steps_2": Variant("rfo", "K = 2", {"flow_steps": 2}),
    "flow_steps_8": Variant("rfo", "K = 8", {"flow_steps": 8}),
    "no_past": Variant("rfo", "no stability term", {"c_past": 0.0}),
    "no_uniform": Variant("rfo", "no exploration term", {"c_uniform": 0.0}),
    "no_regularizers": Variant("rfo", "neither term", {"c_past": 0.0, "c_uniform": 0.0}),
    "constant": Variant("rfo", "both terms constant", CONSTANT),
    "constant_past": Variant("rfo", "constant stability term alone", CONSTANT | {"c_uniform": 0.0}),
    "constant_uniform": Variant(
        "rfo", "constant exploration term alone", CONSTANT | {"c_past": 0.0}
    ),
    "chunk_2": Variant("rfo", "chunks of 2", {"chunk_length": 2}),
    "chunk_4": Variant("rfo", "chunks of 4", {"chunk_length": 4}),
}
FIGURES = {
    "comparison": ("rfo", "shac", "sapo", "apg"),
    "flow_steps": ("flow_steps_1", "flow_steps_2", "rfo", "flow_steps_8"),
    "regularizers": (
        "rfo",
        "constant",
        "no_past",
        "no_uniform",
        "no_regularizers",
        "constant_past",
        "constant_uniform",
    ),
    "chunks": ("rfo", "chunk_2", "chunk_4"),
}


def run(name: str) -> None:
    """Trains one variant's seeds and writes its results."""
    import rpgjax
    from rpgjax.training.runs import device_description, versions
    from rpgjax.training.settings import settings_to_json

    variant = VARIANTS[name]
    print(f"== {name}", flush=True)
    done = rpgjax.train(
        variant.algorithm,
        env="ant",
        backend="spring",
        seeds=SEEDS,
        updates=variant.updates,
        replay=False,
        **variant.changes,
    )
    seeds = []
    for rows in done.rows:
        evaluated = [row for row in rows if CURVES[0] in row]
        curve = {key: [row[key] for row in evaluated] for key in ("env_steps", *CURVES)}
        curve["eval/episode_length_mean"] = [row["eval/episode_length_mean"] for row in evaluated]
        curve["train/nonfinite_fraction_max"] = max(r["train/nonfinite_fraction"] for r in rows)
        seeds.append(curve)
    RESULTS.mkdir(exist_ok=True)
    content = {
        "settings": settings_to_json(done.settings),
        "versions": versions(),
        "device": device_description(),
        "wall_seconds_for_all_seeds": done.rows[0][-1]["wall_seconds"],
        "compile_seconds": done.rows[0][-1]["compile_seconds"],
        "seeds": seeds,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def curves(name: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps (evaluation,) and values (seed, evaluation)."""
    seeds = json.loads((RESULTS / f"{name}.json").read_text())["seeds"]
    return np.array(seeds[0]["env_steps"]), np.array([seed[key] for seed in seeds])


def draw(figure: str, names: tuple[str, ...]) -> None:
    """Mean and range over the seeds, deterministic and stochastic evaluation side by side."""
    names = tuple(name for name in names if (RESULTS / f"{name}.json").exists())
    if not names:
        return
    picture, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, key, title in zip(axes, CURVES, ("deterministic", "stochastic"), strict=True):
        for name in names:
            steps, values = curves(name, key)
            (line,) = axis.plot(steps / 1e6, values.mean(0), label=VARIANTS[name].label)
            color = line.get_color()
            axis.fill_between(steps / 1e6, values.min(0), values.max(0), color=color, alpha=0.2)
        axis.set(xlabel="environment steps (millions)", title=f"{title} policy")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("return of an episode")
    axes[0].legend()
    picture.suptitle(f"Brax Ant (spring): mean and range of {SEEDS} seeds")
    picture.savefig(HERE / f"{figure}.png", dpi=110)
    plt.close(picture)


def table() -> str:
    """A Markdown row for each variant with results: mean over seeds, lowest and highest in brackets."""
    columns = [(updates, key) for updates in (ABLATION, FULL) for key in CURVES]
    titles = [
        f"{'stochastic' if 'stochastic' in key else 'deterministic'}, "
        f"{updates * STEPS_PER_UPDATE / 1e6:.2f}M"
        for updates, key in columns
    ]
    lines = [f"| variant | changed | {' | '.join(titles)} |", "|---" * (len(titles) + 2) + "|"]

    def cell(name: str, updates: int, key: str) -> str:
        steps, values = curves(name, key)
        at = np.flatnonzero(steps == updates * STEPS_PER_UPDATE)
        if not at.size:
            return ""
        values = values[:, at[0]]
        return f"{values.mean():.0f} [{values.min():.0f}, {values.max():.0f}]"

    for name, variant in VARIANTS.items():
        if (RESULTS / f"{name}.json").exists():
            changed = ", ".join(f"{k}={v}" for k, v in variant.changes.items()) or "preset"
            cells = (cell(name, updates, key) for updates, key in columns)
            lines.append(f"| {variant.label} | {changed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report() -> None:
    """Figures beside this script, the table on the screen and in table.md."""
    for figure, names in FIGURES.items():
        draw(figure, names)
    (HERE / "table.md").write_text(table() + "\n")
    print(table())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", choices=[[], *VARIANTS], help="default: all")
    parser.add_argument("--report", action="store_true", help="draw only")
    arguments = parser.parse_args()
    if not arguments.report:
        missing = [name for name in VARIANTS if not (RESULTS / f"{name}.json").exists()]
        for name in arguments.variants or missing:
            run(name)
    report()
