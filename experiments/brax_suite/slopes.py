"""How soft must ground be whose slopes stand in for those of Brax's own? RFO on `generalized`.

python experiments/brax_suite/slopes.py            what has no results yet, five minutes each
python experiments/brax_suite/slopes.py --report   only the tables
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import CURVES, learning_curves, measure_each, provenance, require_whole, spread

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "slopes.json"
BACKEND = "generalized-smoothed"
UPDATES = {"halfcheetah": 400, "hopper": 200}  # of the preset's num_envs x horizon steps
SETTINGS = {"eval_episodes": 16, "seeds": 3}
EVALUATIONS = 5
FIRM = {"sag": 0.01, "slip": 0.1, "smoothing": 0.002}
BETWEEN = {"sag": 0.02, "slip": 0.25, "smoothing": 0.005}
SOFT = {"sag": 0.04, "slip": 0.5, "smoothing": 0.01}


class Slopes(NamedTuple):
    """A task, and the ground whose slopes it is given."""

    task: str
    compliance: dict[str, float]


VARIANTS = {
    f"{task}, {name}": Slopes(task, compliance)
    for task in UPDATES
    for name, compliance in {
        "firm, as where a body rests on it": FIRM,
        "between": BETWEEN,
        "soft, as Ant's": SOFT,
    }.items()
}


def measure(slopes: Slopes) -> dict[str, Any]:
    """Evaluations of every seed."""
    from brax import envs

    import rpgjax
    from rpgjax.physics.backends import differentiable
    from rpgjax.physics.compliance import Compliance
    from rpgjax.physics.compliant import compliant
    from rpgjax.physics.surrogate import surrogate
    from rpgjax.presets import preset

    name, compliance = slopes
    exact, smooth = (envs.get_environment(name, backend="generalized") for _ in range(2))
    task = surrogate(differentiable(exact), compliant(smooth, Compliance(**compliance)))
    length = {"updates": UPDATES[name], "eval_every": UPDATES[name] // EVALUATIONS}
    settings = preset("rfo", name, BACKEND)
    done = rpgjax.train(settings, env=task, replay=False, **length, **SETTINGS)
    require_whole(done)
    seeds = [learning_curves(rows) for rows in done.rows]
    return {"compliance": compliance, "seeds": seeds} | provenance(done)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: a table for each task, a row for each variant."""
    tables = []
    for task in UPDATES:
        rows = {name: row for name, row in found.items() if name.startswith(task)}
        if not rows:
            continue
        steps = next(iter(rows.values()))["seeds"][0]["env_steps"]
        titles = " | ".join(f"{count / 1e6:.2f}M" for count in steps)
        lines = [f"| slopes of ground that is | in numbers | {titles} |"]
        lines += ["|---" * (len(steps) + 2) + "|"]
        for name, row in rows.items():
            numbers = ", ".join(f"{k} = {v}" for k, v in row["compliance"].items())
            at_each = zip(*(seed[CURVES[0]] for seed in row["seeds"]), strict=True)
            lines.append(f"| {name} | {numbers} | {' | '.join(spread(v) for v in at_each)} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


if __name__ == "__main__":
    measure_each(RESULTS, VARIANTS, measure, table, "slopes", __doc__.splitlines()[0])
