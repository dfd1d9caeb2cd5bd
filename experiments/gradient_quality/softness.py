"""What soft ground does to the ant's gradient: `Compliance`, one number after the other.

python experiments/gradient_quality/softness.py            what has no results yet, a minute each
python experiments/gradient_quality/softness.py --report   only the table
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import measure_each

from rpgjax.training.runs import origin

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "softness.json"
TASK, HORIZON, NUM_ENVS, SEED = "ant", 32, 64, 0
VARIANTS: dict[str, dict[str, float]] = {
    "the ant's default": {},
    "half as soft": {"sag": 0.02},
    "twice as soft": {"sag": 0.08},
    "half the slip speed": {"slip": 0.25},
    "twice the slip speed": {"slip": 1.0},
    "contacts set in over 20 mm": {"smoothing": 0.02},
    "stops four times as soft": {"overrun": 0.2, "stop_smoothing": 0.04},
    "steps of 5 ms": {"longest_step": 0.005},
    "steps of 25 ms": {"longest_step": 0.025},
    "twice as soft, twice the slip speed": {"sag": 0.08, "slip": 1.0},
}


def measure(changes: dict[str, float]) -> dict[str, Any]:
    """Norms of the gradient of H rewards with respect to H uniform actions."""
    import jax
    import numpy as np
    from brax import envs

    from rpgjax.envs.registry import softness
    from rpgjax.gradcheck import compile_programs, gradient_norms, rate, starting_points
    from rpgjax.physics.compliant import compliant

    compliance = replace(softness(TASK), **changes)
    task = compliant(envs.get_environment(TASK, backend="generalized"), compliance)
    key = jax.random.key(SEED)
    states, actions = starting_points(task, HORIZON, NUM_ENVS, key, None)
    programs, _ = compile_programs(task, actions, states)
    norms, broken = gradient_norms(programs.gradient(actions, states, HORIZON))
    steps = rate(lambda: programs.gradient(actions, states, HORIZON), HORIZON * NUM_ENVS)
    return {
        "changes": changes,
        "median": float(np.median(norms)),
        "largest": float(norms.max()),
        "nonfinite": broken,
        "gradient_steps_per_second": steps,
        **origin(),
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each variant."""
    lines = ["| ant on compliant, H = 32 | changed | norm: median | largest |", "|---" * 4 + "|"]
    for name, row in found.items():
        changes = ", ".join(f"{k} = {v}" for k, v in row["changes"].items())
        lines.append(f"| {name} | {changes} | {row['median']:.0f} | {row['largest']:,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    measure_each(RESULTS, VARIANTS, measure, table, "softness", __doc__.splitlines()[0])
