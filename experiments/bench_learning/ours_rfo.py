"""Trains RFO's preset on one seed and prints every evaluation as a line of JSON."""

import json
import sys

import rpgjax
from rpgjax.training.report import Report

UPDATES = 4000  # of 32 x 16 steps: 2.05M; the benchmark stops reading long before


class Lines(Report):
    """Evaluations as lines; everything else is silent."""

    def __init__(self) -> None:
        self.last = -1

    def progress(self, row, updates: int) -> None:
        """One line for each new evaluation."""
        del updates
        if row.get("evaluated_at", -1) != self.last:
            self.last = row["evaluated_at"]
            line = {"env_steps": row["env_steps"], "return": row["eval/return_mean"]}
            print(json.dumps(line | {"seconds_not_counted": 0.0}), flush=True)


if __name__ == "__main__":
    _, env, backend, seed = sys.argv
    rpgjax.train(
        "rfo",
        env=env,
        backend=backend,
        seed=int(seed),
        updates=UPDATES,
        eval_episodes=64,
        replay=False,
        report=Lines(),
    )
