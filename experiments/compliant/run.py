"""Halfcheetah on compliant contact: RFO learns through whole windows of 32 steps, with no stabiliser.

python experiments/compliant/run.py            what has no results yet
python experiments/compliant/run.py --report   only the figure and the table
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Experiment, Variant, main

UPDATES = 340  # of 64 x 32 environment steps: 0.70M
WHOLE = {
    "num_envs": 64,
    "horizon": 32,
    "regularizer_decay_steps": 1_200_000,
    "max_cotangent_norm": 0.0,
}

EXPERIMENT = Experiment(
    folder=Path(__file__).parent,
    env="halfcheetah",
    backend="compliant",
    seeds=1,
    variants={"rfo": Variant("rfo", "RFO, nothing cut", UPDATES, WHOLE)},
    figures={"halfcheetah": ("rfo",)},
    table_at=(UPDATES * 2048,),
)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__.splitlines()[0])
