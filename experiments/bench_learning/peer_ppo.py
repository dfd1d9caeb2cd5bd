"""Trains Brax's own PPO on one seed and prints every evaluation as a line of JSON.

Runs in the environment of `../bench/constraints-peer.txt` and imports nothing of rpgjax. The settings
are those of Brax's training notebook for Ant; the evaluation is ours: the deterministic policy, 64
episodes of 1000 steps. The seconds that evaluations take, and their compilation, are handed over so
that they can be left out.
"""

import functools
import json
import sys
import time

from brax import envs
from brax.training import acting
from brax.training.agents.ppo import train as ppo

TRAINING_STEP = 2048 * 32 * 5  # environment steps: batch size, minibatches, unroll length
EVALUATIONS = 153  # after the first: one after each training step, PPO's finest
STEPS = EVALUATIONS * TRAINING_STEP  # 50M, the notebook's; the benchmark stops reading earlier

evaluating = 0.0  # seconds so far


class TimedEvaluator(acting.Evaluator):
    """Brax's evaluator, that counts its seconds."""

    def run_evaluation(self, *args, **kwargs):
        """As Brax does it."""
        global evaluating
        began = time.perf_counter()
        metrics = super().run_evaluation(*args, **kwargs)
        evaluating += time.perf_counter() - began
        return metrics


def progress(steps: int, metrics: dict) -> None:
    """One line for each evaluation."""
    line = {"env_steps": int(steps), "return": float(metrics["eval/episode_reward"])}
    print(json.dumps(line | {"seconds_not_counted": evaluating}), flush=True)


if __name__ == "__main__":
    _, env, backend, seed = sys.argv
    acting.Evaluator = TimedEvaluator
    train = functools.partial(
        ppo.train,
        num_timesteps=STEPS,
        num_evals=EVALUATIONS + 1,
        reward_scaling=10,
        episode_length=1000,
        normalize_observations=True,
        action_repeat=1,
        unroll_length=5,
        num_minibatches=32,
        num_updates_per_batch=4,
        discounting=0.97,
        learning_rate=3e-4,
        entropy_cost=1e-2,
        num_envs=4096,
        batch_size=2048,
        num_eval_envs=64,
        deterministic_eval=True,
    )
    train(
        environment=envs.get_environment(env, backend=backend),
        seed=int(seed),
        progress_fn=progress,
        max_devices_per_host=1,
    )
