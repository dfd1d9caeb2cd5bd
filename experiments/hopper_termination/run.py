"""Hopper (spring): what gets a policy past the lunge that kills it after ten steps.

Termination is a step function, so no gradient passes through it; a lambda-mixed actor objective lets the
critic's values of the states on the way in, and the critic can know the cliff.

python experiments/hopper_termination/run.py [VARIANT ...] [--report]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Experiment, Variant, main

UPDATES, LONG = 340, 600  # of 64 x 32 environment steps: 0.70M and 1.23M
# What the preset had when the variants below were run.
NEAR = {"discount": 0.99, "actor_average_keep": 0.0}
MEAN = NEAR | {"actor_lambda": 0.9, "actor_value": "mean"}
AVERAGED = NEAR | {"actor_average_keep": 0.9, "actor_lambda": 0.9, "flow_steps": 2}
TWO_STEPS = NEAR | {"actor_lambda": 0.9, "flow_steps": 2}
SHORT = NEAR | {"actor_lambda": 0.5, "horizon": 16, "num_envs": 128}

EXPERIMENT = Experiment(
    folder=Path(__file__).parent,
    env="hopper",
    backend="spring",
    seeds=3,
    variants={
        "lambda_1": Variant(
            "rfo", "lambda 1 (SHAC's objective)", UPDATES, NEAR | {"actor_lambda": 1.0}
        ),
        "lambda_09": Variant("rfo", "lambda 0.9", UPDATES, NEAR | {"actor_lambda": 0.9}),
        "lambda_08": Variant("rfo", "lambda 0.8", UPDATES, NEAR | {"actor_lambda": 0.8}),
        "lambda_05_short": Variant("rfo", "lambda 0.5, H = 16, 128 envs", UPDATES, SHORT),
        "lambda_09_mean": Variant("rfo", "lambda 0.9, mean of critics", UPDATES, MEAN),
        "lambda_09_averaged": Variant("rfo", "lambda 0.9, K = 2, averaged", LONG, AVERAGED),
        "lambda_09_two_steps": Variant("rfo", "lambda 0.9, K = 2", UPDATES, TWO_STEPS),
        "discount_0997": Variant("rfo", "discount 0.997, averaged: the preset", UPDATES),
    },
    figures={
        "discount": ("lambda_09", "lambda_09_averaged", "discount_0997"),
        "hopper": ("lambda_1", "lambda_09", "lambda_08", "lambda_05_short"),
        "critics_and_steps": ("lambda_09", "lambda_09_mean", "lambda_09_two_steps"),
        "longer": ("lambda_09", "lambda_09_two_steps", "lambda_09_averaged"),
    },
    table_at=(UPDATES * 2048, LONG * 2048),
)

if __name__ == "__main__":
    main(EXPERIMENT, __doc__.splitlines()[0])
