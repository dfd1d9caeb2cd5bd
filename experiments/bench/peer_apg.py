"""Times the training epochs of Brax's own APG, one block at a time, on request.

Runs in an environment of its own (`constraints-peer.txt`), because Brax's trainers need jax < 0.10,
and therefore imports nothing of rpgjax. `rpgjax bench` starts it and talks to it over pipes: the
first line on standard input asks for the versions, every other one for a timed block; each is
answered with one JSON object on a line of the file descriptor that `BENCH_ANSWERS` names; the end
of standard input ends it.

`brax.training.agents.apg.train` runs as shipped, with its own environment wrappers, network and
optimizer settings. After each training epoch it calls `progress_fn` with the epoch's
`training/sps`, which covers the training step alone; waiting there for the next request is what
pauses it. Only its evaluator is replaced by one that does nothing: Brax does not count it either,
but it would compile a second program and use the machine between blocks.
"""

import argparse
import importlib.metadata
import json
import math
import os
import sys

from brax import envs
from brax.training import acting
from brax.training.agents.apg import train as apg

MANY_EPOCHS = 10_000  # asked of Brax; the bench stops asking long before


class NoEvaluation:
    """Stands in for `brax.training.acting.Evaluator`."""

    def __init__(self, *args, **kwargs):
        del args, kwargs

    def run_evaluation(self, policy_params, training_metrics):
        """Passes the training metrics on."""
        del policy_params
        return training_metrics


def main() -> None:
    """Answers the first request with the versions, every other one with a timed block."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", required=True)
    parser.add_argument("--backend", required=True)
    parser.add_argument("--num-envs", type=int, required=True)
    parser.add_argument("--horizon", type=int, required=True)
    parser.add_argument("--updates-per-block", type=int, required=True)
    arguments = parser.parse_args()

    answers = open(int(os.environ["BENCH_ANSWERS"]), "w", buffering=1)  # noqa: SIM115
    steps = arguments.updates_per_block * arguments.num_envs * arguments.horizon

    def wait() -> None:
        if not sys.stdin.readline():
            os._exit(0)  # Brax's train has no way to stop early

    def progress(epoch: int, metrics: dict) -> None:
        if epoch == 0:  # the initial evaluation: nothing was trained yet
            return
        seconds = float(steps / metrics["training/sps"])
        finite = math.isfinite(float(metrics["training/grad_norm"]))
        print(json.dumps({"seconds": seconds, "finite": finite}), file=answers)
        wait()

    wait()
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "brax")}
    print(json.dumps({"versions": versions}), file=answers)
    wait()
    acting.Evaluator = NoEvaluation
    apg.train(
        environment=envs.get_environment(arguments.env, backend=arguments.backend),
        episode_length=1000,
        policy_updates=MANY_EPOCHS * arguments.updates_per_block,
        horizon_length=arguments.horizon,
        num_envs=arguments.num_envs,
        num_evals=MANY_EPOCHS + 1,
        max_devices_per_host=1,
        progress_fn=progress,
    )


if __name__ == "__main__":
    main()
