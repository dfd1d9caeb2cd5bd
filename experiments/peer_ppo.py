"""Trains Brax's own PPO on one seed and prints every evaluation as a line of JSON.

peer_ppo.py ENV BACKEND SEED

Runs in the environment of `bench/constraints-peer.txt`; of rpgjax it imports nothing but, where
BACKEND is `compliant`, the physics. The settings are those of Brax's training notebook (for Swimmer,
which is not in it, Halfcheetah's); the evaluation is ours: the deterministic policy, 64 episodes of
1000 steps. The seconds that evaluations take, and their compilation, are handed over so that they can
be left out.
"""

import json
import sys
import time
from typing import Any, NamedTuple

from brax import envs
from brax.training import acting
from brax.training.agents.ppo import train as ppo


class Task(NamedTuple):
    """What the notebook's settings differ in."""

    reward_scaling: float
    discounting: float
    entropy_cost: float
    num_envs: int
    batch_size: int
    num_minibatches: int
    unroll_length: int
    num_updates_per_batch: int
    action_repeat: int = 1
    evaluate_every: int = (
        1  # training steps: batch_size x num_minibatches x unroll_length x action_repeat
    )
    num_timesteps: int = 50_000_000

    @property
    def evaluations(self) -> int:
        """How many there are after the first."""
        step = self.batch_size * self.num_minibatches * self.unroll_length * self.action_repeat
        return -(-self.num_timesteps // (step * self.evaluate_every))


HALFCHEETAH = Task(1, 0.95, 1e-3, 2048, 512, 32, 20, 8, evaluate_every=4)
TASKS = {
    "ant": Task(10, 0.97, 1e-2, 4096, 2048, 32, 5, 4),
    "halfcheetah": HALFCHEETAH,
    "swimmer": HALFCHEETAH,
    "humanoid": Task(0.1, 0.97, 1e-3, 2048, 1024, 32, 10, 8, evaluate_every=4),
    "reacher": Task(5, 0.95, 1e-3, 2048, 256, 32, 50, 8, action_repeat=4),
    "pusher": Task(5, 0.95, 1e-2, 2048, 512, 16, 30, 8, evaluate_every=4),
    "inverted_double_pendulum": Task(
        10, 0.97, 1e-2, 2048, 1024, 32, 5, 4, evaluate_every=4, num_timesteps=20_000_000
    ),
}

evaluating = 0.0  # seconds so far


class TimedEvaluator(acting.Evaluator):
    """Brax's evaluator, that counts its seconds."""

    def run_evaluation(self, *args: Any, **kwargs: Any) -> Any:
        """As Brax does it."""
        global evaluating
        began = time.perf_counter()
        metrics = super().run_evaluation(*args, **kwargs)
        evaluating += time.perf_counter() - began
        return metrics


def progress(steps: int, metrics: dict[str, Any]) -> None:
    """One line for each evaluation."""
    line = {"env_steps": int(steps), "return": float(metrics["eval/episode_reward"])}
    print(json.dumps(line | {"seconds_not_counted": evaluating}), flush=True)


def make(env: str, backend: str) -> envs.Env:
    """The task, on Brax's own physics or on ours."""
    if backend != "compliant":
        return envs.get_environment(env, backend=backend)
    from rpgjax.envs.registry import make as make_ours

    return make_ours(env, backend)


if __name__ == "__main__":
    _, env, backend, seed = sys.argv
    acting.Evaluator = TimedEvaluator
    settings = TASKS[env]._asdict()
    settings.pop("evaluate_every")
    ppo.train(
        environment=make(env, backend),
        seed=int(seed),
        progress_fn=progress,
        num_evals=TASKS[env].evaluations + 1,
        episode_length=1000,
        normalize_observations=True,
        learning_rate=3e-4,
        num_eval_envs=64,
        deterministic_eval=True,
        max_devices_per_host=1,
        **settings,
    )
