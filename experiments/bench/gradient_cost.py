"""What a gradient costs in forward steps: our physics beside Brax's own, in turn in one process.

python experiments/bench/gradient_cost.py [--envs ant hopper ant_push] [--sizes 64 1024] [--json FILE]

Each program steps a task for 16 steps from reset states under uniform actions; the gradient is that of
the rewards' sum with respect to the actions. Brax's side is its environment as shipped, differentiated
as `brax.training.agents.apg` does it. Compile times are from nothing. What the README
shows is in gradient_cost.json.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import jax

from rpgjax.envs import registry
from rpgjax.envs.ant_mazes import ant_push
from rpgjax.envs.quiet import quiet_brax, quiet_models
from rpgjax.training.metrics import write_json
from rpgjax.training.runs import origin

with quiet_brax():
    from brax import envs

    from rpgjax import gradcheck

HORIZON = 16
BACKEND = "spring"
OURS = {"ant_push": ant_push}  # tasks that Brax does not have, on its own physics
SIDES = {
    "rpgjax": lambda name: registry.make(name, BACKEND),
    "brax": lambda name: (
        OURS[name](BACKEND) if name in OURS else envs.get_environment(name, backend=BACKEND)
    ),
}


def prepare(side: str, name: str, size: int) -> dict[str, Any]:
    """A side's compiled programs, bound to their arguments."""
    with quiet_models():
        env = SIDES[side](name)
    states, actions = gradcheck.starting_points(env, HORIZON, size, jax.random.key(0), None)
    programs, seconds = gradcheck.compile_programs(env, actions, states)
    calls = {
        "forward": lambda: programs.returns(actions, states, HORIZON),
        "gradient": lambda: programs.gradient(actions, states, HORIZON),
    }
    return {"compile_seconds": seconds, "calls": calls}


def measure(name: str, size: int, rounds: int, sides: list[str]) -> dict[str, Any]:
    """Rates of both sides in turn, and their ratios; medians over the rounds."""
    ready = {side: prepare(side, name, size) for side in sides}
    rates: dict[str, dict[str, list[float]]] = {side: {} for side in ready}
    for _ in range(rounds):
        for side, prepared in ready.items():
            for kind, call in prepared["calls"].items():
                rates[side].setdefault(kind, []).append(gradcheck.rate(call, HORIZON * size))
    row: dict[str, Any] = {"env": name, "num_envs": size}
    for side, found in rates.items():
        ratios = [f / g for f, g in zip(found["forward"], found["gradient"], strict=True)]
        row[side] = {
            "forward_steps_per_second": statistics.median(found["forward"]),
            "gradient_steps_per_second": statistics.median(found["gradient"]),
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "compile_seconds": ready[side]["compile_seconds"],
        }
    return row


def main() -> None:
    """Measures every task and size, prints a Markdown table and writes the rows so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", nargs="+", default=["ant", "hopper"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 1024])
    parser.add_argument("--sides", nargs="+", choices=sorted(SIDES), default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where the rows go, too")
    arguments = parser.parse_args()
    rows = []
    titles = ["task", "environments", "physics", "forward steps/s", "gradient steps/s", "ratio"]
    titles.append("compile s")
    print(f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", sep="\n", flush=True)
    for name in arguments.envs:
        for size in arguments.sizes:
            rows.append(measure(name, size, arguments.rounds, arguments.sides))
            for side in arguments.sides:
                found = rows[-1][side]
                forward, gradient = (
                    f"{found[f'{kind}_steps_per_second']:,.0f}" for kind in ("forward", "gradient")
                )
                cells = [name, str(size), side, forward, gradient]
                cells += [f"{found['ratio']:.1f}", f"{found['compile_seconds']:.0f}"]
                print(f"| {' | '.join(cells)} |", flush=True)
            if arguments.json is not None:
                write_json(arguments.json, {"rows": rows} | origin())


if __name__ == "__main__":
    main()
