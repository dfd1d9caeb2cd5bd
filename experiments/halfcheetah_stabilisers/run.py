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
        "clip": rfo("limit of 9.6", max_cotangent_norm=9.6),
        "clip_low": rfo("limit of 1", max_cotangent_norm=1.0),
        "decay_0.9": rfo("decay, 0.9 kept", cotangent_decay=0.9),
        "decay_0.7": rfo("decay, 0.7 kept", cotangent_decay=0.7),
        "adaptive_1.5": rfo("adaptive horizon, growth 1.5", max_growth=1.5),  # the preset
        "adaptive_3": rfo("adaptive horizon, growth 3", max_growth=3.0),
        "shac": Variant("shac", "SHAC, adaptive horizon, growth 1.5", UPDATES),
        "sapo": Variant("sapo", "SAPO, adaptive horizon, growth 1.5", UPDATES),
        "short_clip": rfo("windows of 8, limit", horizon=8, num_envs=256, max_cotangent_norm=9.6),
    },
    figures={
        "stabilisers": ("free", "short", "clip", "decay_0.7", "adaptive_1.5", "short_clip"),
        "comparison": ("adaptive_1.5", "shac", "sapo"),
        "strengths": ("clip", "clip_low", "decay_0.9", "decay_0.7", "adaptive_1.5", "adaptive_3"),
    },
    table_at=(UPDATES // 2, UPDATES),
)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__.splitlines()[0])
