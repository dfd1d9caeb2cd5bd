"""RFO against SHAC, SAPO and APG on Brax Ant (spring), and what each part of RFO does.

python experiments/ant_flow_vs_gaussian/run.py            everything that has no results yet
python experiments/ant_flow_vs_gaussian/run.py rfo shac   only these
python experiments/ant_flow_vs_gaussian/run.py --report   only the figures and the table
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Experiment, Variant, main

FULL, ABLATION = 340, 200  # updates of 64 x 32 environment steps: 0.70M and 0.41M
CONSTANT = {"regularizer_floor": 1.0}
CONSTANT_PAST = {"regularizer_floor": 1.0, "c_uniform": 0.0}
CONSTANT_UNIFORM = {"regularizer_floor": 1.0, "c_past": 0.0}
SHORT = {"learning_rate_decay_steps": 700_000, "regularizer_decay_steps": 700_000}
NEITHER = {"c_past": 0.0, "c_uniform": 0.0}

EXPERIMENT = Experiment(
    folder=Path(__file__).parent,
    env="ant",
    backend="spring",
    seeds=3,
    variants={
        "rfo": Variant("rfo", "RFO", FULL),
        "shac": Variant("shac", "SHAC", FULL),
        "sapo": Variant("sapo", "SAPO", FULL),
        "apg": Variant("apg", "APG", FULL),
        "flow_steps_1": Variant("rfo", "K = 1", ABLATION, {"flow_steps": 1}),
        "flow_steps_2": Variant("rfo", "K = 2", ABLATION, {"flow_steps": 2}),
        "flow_steps_8": Variant("rfo", "K = 8", ABLATION, {"flow_steps": 8}),
        "two_steps": Variant("rfo", "RFO, K = 2, longer", FULL, {"flow_steps": 2}),
        "no_past": Variant("rfo", "exploration term alone", ABLATION, {"c_past": 0.0}),
        "no_uniform": Variant("rfo", "stability term alone", ABLATION, {"c_uniform": 0.0}),
        "no_regularizers": Variant("rfo", "neither term", ABLATION, NEITHER),
        "constant": Variant("rfo", "both constant", ABLATION, CONSTANT),
        "constant_past": Variant("rfo", "constant stability alone", ABLATION, CONSTANT_PAST),
        "constant_uniform": Variant(
            "rfo", "constant exploration alone", ABLATION, CONSTANT_UNIFORM
        ),
        "mean": Variant("rfo", "RFO, mean of critics", FULL, {"actor_value": "mean"}),
        "short_decays": Variant("rfo", "RFO, decays over 0.7M", FULL, SHORT),
        "chunk_2": Variant("rfo", "chunks of 2", ABLATION, {"chunk_length": 2}),
        "chunk_4": Variant("rfo", "chunks of 4", ABLATION, {"chunk_length": 4}),
    },
    figures={
        "comparison": ("rfo", "mean", "shac", "sapo", "apg"),
        "flow_steps": ("flow_steps_1", "two_steps", "rfo", "flow_steps_8"),
        "regularizers": (
            "rfo",
            "constant",
            "no_past",
            "no_uniform",
            "no_regularizers",
            "constant_past",
            "constant_uniform",
        ),
        "critics": ("rfo", "mean", "short_decays"),
        "chunks": ("rfo", "chunk_2", "chunk_4"),
    },
    table_at=(ABLATION, FULL),
)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__.splitlines()[0])
