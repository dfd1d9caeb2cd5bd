"""Trains the toy in a process of its own, for tests that kill it or starve it.

`python worker.py OUT UPDATES CHECKPOINT_EVERY SEEDS SIZE [FILE_LIMIT]`
"""

import resource
import sys
from pathlib import Path

from toy import Line, toy_agent

from rpgjax.training.loop import TrainSettings, fit
from rpgjax.training.report import Plain
from rpgjax.training.settings import RunError


def settings(updates: int, checkpoint_every: int) -> TrainSettings:
    """The same in the test and in the worker."""
    return TrainSettings(
        "toy",
        "line",
        updates=updates,
        eval_every=10,
        eval_episodes=8,
        checkpoint_every=checkpoint_every,
    )


if __name__ == "__main__":
    out, updates, every, seeds, size = sys.argv[1], *map(int, sys.argv[2:6])
    if len(sys.argv) > 6:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[6]),) * 2)
    try:
        outcome = fit(
            toy_agent(size),
            Line(),
            settings(updates, every),
            10,
            seeds=seeds,
            out=Path(out),
            report=Plain(),
        )
    except RunError as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)
    sys.exit(128 + outcome.signum if outcome.signum else 0)
