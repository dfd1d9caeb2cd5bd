"""RFO against SHAC, SAPO and APG on Brax Ant (spring), and what each part of RFO does.

python experiments/ant_flow_vs_gaussian/run.py            everything that has no results yet
python experiments/ant_flow_vs_gaussian/run.py rfo shac   only these
python experiments/ant_flow_vs_gaussian/run.py --report   only the figures and the table
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Experiment, Variant, main

FULL, ABLATION = 340, 200  # updates of 64 x 32 environment steps: 0.70M and 0.41M
PRESET = 1360  # updates of the preset's 32 x 16: 0.70M
SLOW = {"regularizer_decay_steps": 1_200_000}  # RFO's default
LONG = {"horizon": 32, "eval_every": 40}  # windows twice as long; evaluated after as many steps
MORE = LONG | {"num_envs": 64, "eval_every": 20}  # and twice as many environments
FREE = MORE | {"max_cotangent_norm": 0.0}
LAST = FREE | {"actor_average_keep": 0.0}
# The public port's K, no stabiliser: what the ablations start from.
BASE = LAST | SLOW | {"flow_steps": 4}


def base(label: str, updates: int = ABLATION, **changes: Any) -> Variant:
    """The base with some fields changed."""
    return Variant("rfo", f"base, {label}", updates, BASE | changes)


def free(label: str, **changes: Any) -> Variant:
    """64 environments and windows of 32 without the limit on cotangents, with some fields changed."""
    return Variant("rfo", f"free, {label}", FULL, FREE | SLOW | changes)


DECAYS = {"learning_rate_decay_steps": 700_000, "regularizer_decay_steps": 700_000}

EXPERIMENT = Experiment(
    folder=Path(__file__).parent,
    env="ant",
    backend="spring",
    seeds=3,
    variants={
        "rfo": Variant("rfo", "RFO", PRESET),
        "shac": Variant("shac", "SHAC", PRESET),
        "sapo": Variant("sapo", "SAPO", PRESET),
        "apg": Variant("apg", "APG", PRESET),
        "rfo_slow": Variant("rfo", "RFO, regularizers over 1.2M", PRESET, SLOW),
        "rfo_sooner": Variant(
            "rfo", "RFO, over 0.15M", PRESET, {"regularizer_decay_steps": 150_000}
        ),
        "rfo_32": Variant("rfo", "RFO, windows of 32", PRESET // 2, LONG | SLOW),
        "shac_32": Variant("shac", "SHAC, windows of 32", PRESET // 2, LONG),
        "sapo_32": Variant("sapo", "SAPO, windows of 32", PRESET // 2, LONG),
        "apg_32": Variant("apg", "APG, windows of 32", PRESET // 2, LONG),
        "rfo_64": Variant("rfo", "RFO, 64 environments", FULL, MORE | SLOW),
        "shac_64": Variant("shac", "SHAC, 64 environments", FULL, MORE),
        "sapo_64": Variant("sapo", "SAPO, 64 environments", FULL, MORE),
        "apg_64": Variant("apg", "APG, 64 environments", FULL, MORE),
        "rfo_free": Variant("rfo", "RFO, cotangents free", FULL, FREE | SLOW),
        "shac_free": Variant("shac", "SHAC, cotangents free", FULL, FREE),
        "sapo_free": Variant("sapo", "SAPO, cotangents free", FULL, FREE),
        "rfo_last": Variant("rfo", "RFO, free, last actor", FULL, LAST | SLOW),
        "shac_last": Variant("shac", "SHAC, free, last actor", FULL, LAST),
        "sapo_last": Variant("sapo", "SAPO, free, last actor", FULL, LAST),
        "free_half_rate": free("half the learning rate", actor_learning_rate=1e-3),
        "free_short_rate": free("rate decays over 0.7M", learning_rate_decay_steps=700_000),
        "free_more_past": free("2.5 times the stability term", c_past=0.5),
        "free_decay": free("cotangents decay, 0.9 kept", cotangent_decay=0.9),
        "free_adaptive": free("adaptive horizon", max_growth=1.5, horizon_rate=0.05),
        "base": Variant("rfo", "base: K = 4, free, last actor", FULL, BASE),
        "mean": base("mean of critics", FULL, actor_value="mean"),
        "short_decays": base("decays over 0.7M", FULL, **DECAYS),
        "flow_steps_1": base("K = 1", flow_steps=1),
        "flow_steps_2": base("K = 2", flow_steps=2),
        "flow_steps_8": base("K = 8", flow_steps=8),
        "no_past": base("exploration term alone", c_past=0.0),
        "no_uniform": base("stability term alone", c_uniform=0.0),
        "no_regularizers": base("neither term", c_past=0.0, c_uniform=0.0),
        "constant": base("both constant", regularizer_floor=1.0),
        "constant_past": base("constant stability alone", regularizer_floor=1.0, c_uniform=0.0),
        "constant_uniform": base("constant exploration alone", regularizer_floor=1.0, c_past=0.0),
        "chunk_2": base("chunks of 2", chunk_length=2),
        "chunk_4": base("chunks of 4", chunk_length=4),
    },
    figures={
        "comparison": ("rfo", "shac", "sapo", "apg"),
        "windows": ("rfo", "rfo_slow", "rfo_32", "shac", "shac_32"),
        "environments": ("rfo_32", "rfo_64", "shac_32", "shac_64"),
        "stabilisers": ("rfo_64", "rfo_free", "rfo_last", "free_decay", "free_adaptive"),
        "instead": ("rfo_64", "rfo_free", "free_half_rate", "free_short_rate", "free_more_past"),
        "stabilisers_gaussian": (
            "shac_64",
            "shac_free",
            "shac_last",
            "sapo_64",
            "sapo_free",
            "sapo_last",
        ),
        "flow_steps": ("flow_steps_1", "flow_steps_2", "base", "flow_steps_8"),
        "regularizers": (
            "base",
            "constant",
            "no_past",
            "no_uniform",
            "no_regularizers",
            "constant_past",
            "constant_uniform",
        ),
        "critics": ("base", "mean", "short_decays"),
        "chunks": ("base", "chunk_2", "chunk_4"),
    },
    table_at=(ABLATION * 2048, FULL * 2048),
)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__.splitlines()[0])
