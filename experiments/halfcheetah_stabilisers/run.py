"""Halfcheetah (spring), whose gradient explodes within a window: which stabiliser makes RFO learn?

python experiments/halfcheetah_stabilisers/run.py             everything that has no results yet
python experiments/halfcheetah_stabilisers/run.py free clip   only these
python experiments/halfcheetah_stabilisers/run.py --report    only the figures and the table
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Experiment, Variant, main

UPDATES = 340  # of 2048 environment steps: 0.70M
FREE = {"max_growth": 0.0}  # the preset's own stabiliser off


def rfo(label: str, **changes: Any) -> Variant:
    """RFO with another stabiliser."""
    return Variant("rfo", label, UPDATES, FREE | changes)


EXPERIMENT = Experiment(
    folder=Path(__file__).parent,
    env="halfcheetah",
    backend="spring",
    seeds=3,
    variants={
        "free": rfo("nothing"),
        "short": rfo("windows of 8", horizon=8, num_envs=256),
        "short_4": rfo("windows of 4", horizon=4, num_envs=512),
        "clip": rfo("limit of 9.6", max_cotangent_norm=9.6),
        "decay_0.7": rfo("decay, 0.7 kept", cotangent_decay=0.7),
        "adaptive": Variant("rfo", "adaptive horizon, growth 1.5", UPDATES),  # the preset
        "adaptive_slow": rfo("the same, adapting slowly", max_growth=1.5, horizon_rate=0.05),
        "shac": Variant("shac", "SHAC, adaptive horizon, growth 1.5", UPDATES),
        "sapo": Variant("sapo", "SAPO, adaptive horizon, growth 1.5", UPDATES),
    },
    figures={
        "stabilisers": ("free", "short", "short_4", "clip", "decay_0.7", "adaptive"),
        "comparison": ("adaptive", "shac", "sapo"),
        "strengths": ("short", "short_4", "adaptive", "adaptive_slow"),
    },
    table_at=(UPDATES * 2048,),
)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__.splitlines()[0])
