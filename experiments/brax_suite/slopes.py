"""How soft must ground be whose slopes stand in for those of Brax's own? RFO on Halfcheetah, `generalized`.

python experiments/brax_suite/slopes.py            what has no results yet, five minutes each
python experiments/brax_suite/slopes.py --report   only the table
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import CURVES, learning_curves, measure_each, provenance, require_whole, spread

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "slopes.json"
TASK, BACKEND = "halfcheetah", "generalized-smoothed"
SETTINGS = {"updates": 400, "eval_every": 80, "eval_episodes": 16, "seeds": 3}
VARIANTS: dict[str, dict[str, float]] = {
    "firm, as where a body rests on it": {"sag": 0.01, "slip": 0.1, "smoothing": 0.002},
    "soft: what `generalized-smoothed` takes": {"sag": 0.04, "slip": 0.5, "smoothing": 0.01},
}


def measure(compliance: dict[str, float]) -> dict[str, Any]:
    """Evaluations of every seed."""
    from brax import envs

    import rpgjax
    from rpgjax.physics.backends import differentiable
    from rpgjax.physics.compliance import Compliance
    from rpgjax.physics.compliant import compliant
    from rpgjax.physics.surrogate import surrogate
    from rpgjax.presets import preset

    exact, smooth = (envs.get_environment(TASK, backend="generalized") for _ in range(2))
    task = surrogate(differentiable(exact), compliant(smooth, Compliance(**compliance)))
    done = rpgjax.train(preset("rfo", TASK, BACKEND), env=task, replay=False, **SETTINGS)
    require_whole(done)
    seeds = [learning_curves(rows) for rows in done.rows]
    return {"compliance": compliance, "seeds": seeds} | provenance(done)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each variant."""
    steps = next(iter(found.values()))["seeds"][0]["env_steps"]
    titles = " | ".join(f"{count / 1e6:.2f}M" for count in steps)
    lines = [f"| slopes of ground that is | in numbers | {titles} |"]
    lines += ["|---" * (len(steps) + 2) + "|"]
    for name, row in found.items():
        numbers = ", ".join(f"{k} = {v}" for k, v in row["compliance"].items())
        at_each = zip(*(seed[CURVES[0]] for seed in row["seeds"]), strict=True)
        lines.append(f"| {name} | {numbers} | {' | '.join(spread(v) for v in at_each)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    measure_each(RESULTS, VARIANTS, measure, table, "slopes", __doc__.splitlines()[0])
