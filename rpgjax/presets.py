"""Settings that work, by algorithm and task: what `rpgjax train ALGORITHM --env TASK` starts from."""

from dataclasses import replace
from typing import Any

from rpgjax.agents import AGENTS, RPGConfig
from rpgjax.envs import registry
from rpgjax.training.settings import TrainSettings

# Many small updates: 32 environments learn from a step what 64 learn from nearly two, and windows of 16 from
# half the steps that windows of 32 take. And what runs already the flow's regularizers only hold back.
SHORT: dict[str, Any] = {"num_envs": 32, "horizon": 16, "regularizer_decay_steps": 300_000}
# A few environments' gradients, ants about to flip, are up to 60 times the median: without the limit they
# steer every update, and runs collapse and recover.
ANT: dict[str, Any] = SHORT | {
    "flow_steps": 2,
    "actor_average_keep": 0.9,
    "max_cotangent_norm": 9.6,
}
# The way around costs distance for five seconds and more: with a discount of 0.99 it is not worth it, with
# 0.997 a third more than going straight on and staying there, with 0.999 twice as much. And what a metre is
# worth later only the critic's slope could say, to ants that still learn to walk: the pace says it at once,
# and leaves the best policy the best (`AntInMaze`). Half of the episodes, all of ten seconds, start where
# others have been, long ago too: the way around is learned from its end, also when nobody takes it from the
# start any more. A step is two of Brax's ant's: windows of 16 are as long as Ant's of 32, and ants learn to
# walk in them late or not at all, in windows of 8, of half as many environments, after 0.1M steps.
# Of a policy with a latent: a flow, z one of four, drawn by what it is worth and told from where ant and
# block are. Latents are paid to differ, kept all four, and what is new is paid for, until ants walk and the
# best is chosen; what is left of the steps is for walking the way well, with rates that are nearly nothing
# in the end. Where all that sees places sees them smoothly, nothing is new a few metres further on, and ants
# go straight ahead and shut AntPush's gap with the block.
ANT_MAZES: dict[str, Any] = ANT | {
    "num_envs": 16,
    "horizon": 8,
    "episode_length": 400,
    "training_length": 100,
    "bank_size": 1024,
    "archive_size": 512,
    "discount": 0.999,
    "pace_bonus": 20.0,
    "reward_scale": 0.1,
    "actor_lambda": 0.95,
    "critic_learning_rate": 2e-3,
    "learning_rate_floor": 0.02,
    "learning_rate_decay_steps": 1_000_000,
    "regularizer_decay_steps": 400_000,
    "head": "flow",
    "latent": "discrete",
    "latent_size": 4,
    "latent_choice": "soft_q",
    "latent_entropy": 3000.0,
    "latent_entropy_floor": 0.003,
    "information": 1.0,
    "information_floor": 0.0,
    "information_about": "objects",
    "encoder_learning_rate": 3e-3,
    "encoder_steps": 4,
    "novelty_scale": 2.0,
    "novelty_floor": 0.0,
    "weights_decay_steps": 600_000,
    "object_frequencies": 5,
}
# What differs from an agent's defaults on a task, for every algorithm that has the field.
TASKS: dict[str, dict[str, Any]] = {
    "ant": ANT,
    # The gradient through a whole window explodes; through pieces of it, it is good.
    "halfcheetah": {"flow_steps": 2, "actor_average_keep": 0.9, "max_growth": 1.5},
    # A hundred steps of 8 ms are 0.8 s: with a discount of 0.99 a fall is out of sight.
    "hopper": {"actor_lambda": 0.9, "discount": 0.997, "actor_average_keep": 0.9},
    "walker2d": {"actor_lambda": 0.9},
    # It stands on two balls: what keeps it up is stepping, and that it learns from being paid to go. With the
    # task's own reward, 5 for standing and 1.25 for each m/s, it learns to fall as slowly as it can.
    "humanoid": {
        "pace_bonus": 3.75,
        "survival_slope": 1.0,
        "reward_scale": 0.1,
        "actor_average_keep": 0.9,
    },
    # A stroke moves forward what the next one gives back: with 0.997 the return is half of it.
    "swimmer": {"discount": 0.999, "actor_average_keep": 0.9},
    "reacher": {"horizon": 16, "actor_average_keep": 0.9},
    # After 0.1M steps an arm knows where to go, and a flow that is kept wide aims badly.
    "pusher": SHORT | {"regularizer_decay_steps": 100_000, "actor_average_keep": 0.9},
    "inverted_double_pendulum": {"horizon": 16, "actor_average_keep": 0.9},
    "lqr": {"episode_length": 64, "horizon": 16, "discount": 0.98},
    "double_integrator": {"episode_length": 100, "horizon": 16, "actor_lambda": 0.9},
    "pendulum": {"episode_length": 200, "horizon": 16},
    "bandit": {
        "episode_length": 1,
        "horizon": 1,
        "num_envs": 64,
        "critic_passes": 1,
        "latent": "discrete",
        "latent_size": 5,
        "information": 1.0,
        "encoder_learning_rate": 3e-3,
        "encoder_steps": 4,
        "latent_entropy": 0.1,
        "action_entropy_floor": 0.0,
        "latent_entropy_floor": 0.0,
        "information_floor": 0.0,
        "weights_decay_steps": 16_000,
        "learning_rate_decay_steps": 32_000,
    },
    "two_routes": {
        "episode_length": 40,
        "horizon": 20,
        "latent": "discrete",
        "latent_size": 8,  # of four, all end on one side in one seed of five
        "information": 1.0,
        "latent_entropy": 100.0,  # of returns of 26: the routes that are found are kept
        "action_entropy_floor": 0.1,
        "latent_entropy_floor": 0.1,
        "information_floor": 0.1,
        "weights_decay_steps": 384_000,
        "regularizer_floor": 0.0,
        "regularizer_decay_steps": 200_000,
        "learning_rate_floor": 0.05,
        "learning_rate_decay_steps": 500_000,
    },
    "gap_maze": {"episode_length": 50},
    "block_push": {"episode_length": 60},
    "ant_push": ANT_MAZES,
    "ant_maze": ANT_MAZES,
}
# What differs from these on compliant contact, alone or behind another backend's steps.
COMPLIANT: dict[str, dict[str, Any]] = {
    # The gradient is good through whole windows: what is left to do is to limit a few environments.
    "halfcheetah": SHORT | {"max_growth": 0.0, "max_cotangent_norm": 9.6},
    "walker2d": {"actor_average_keep": 0.9},  # in short windows one seed of three falls on and on
    "humanoid": SHORT,
    "swimmer": SHORT,
}
# The same for the agents with a world model, whose fields of the same name mean something else.
LEARNED = tuple(name for name, (config, _) in AGENTS.items() if issubclass(config, RPGConfig))
LEARNED_TASKS: dict[str, dict[str, Any]] = {
    "bandit": {"horizon": 1},  # as long as its episodes
    "gap_maze": {"replay_size": 250_000},  # all that 4800 updates see
    # Rewards are dense: nothing needs to be new.
    "ant_push": {"novelty_scale": 0.0},
    "ant_maze": {"novelty_scale": 0.0},
}
ANALYTIC = ("lqr", "double_integrator", "pendulum", "bandit", "two_routes")
SMALL = {
    "actor_hidden": (64, 64),
    "critic_hidden": (64, 64),
    "encoder_hidden": (64, 64),
    "bank_size": 64,
}

# Updates until a task is learned, or nearly.
UPDATES: dict[str, int] = {
    "ant": 1360,
    "halfcheetah": 340,
    "hopper": 600,
    "walker2d": 600,
    "swimmer": 500,
    "reacher": 600,
    "pusher": 800,
    "two_routes": 400,
    "ant_push": 7813,  # 1M environment steps
    "ant_maze": 7813,
}
COMPLIANT_UPDATES: dict[str, int] = {
    "halfcheetah": 2000,
    "hopper": 500,
    "walker2d": 500,
    "humanoid": 2800,
    "swimmer": 2000,
    "pusher": 2000,
}
LEARNED_UPDATES: dict[str, int] = {  # the paper's environment steps, 50 in a call
    "gap_maze": 4800,
    "block_push": 40_000,
    "ant_push": 20_000,
    "ant_maze": 20_000,
}
EVALUATIONS = 17  # in a run, or more
# Physics that steps so slowly that evaluations of 64 episodes would be most of a run's time.
SLOW = ("positional", "generalized", "mjx")
SLOW_EPISODES = 16
CHECKPOINTS = 50


def preset(algorithm: str, env: str, backend: str | None = None) -> TrainSettings:
    """Settings for `algorithm` on `env`; a task without an entry gets the agent's defaults.

    Args:
        algorithm: a key of `rpgjax.agents.AGENTS`.
        env: a registered task's name.
        backend: a Brax physics backend; None takes the task's first, mostly "spring".

    Raises:
        ValueError: an unknown algorithm. Tasks are checked where they are made.
    """
    if algorithm not in AGENTS:
        raise ValueError(f"unknown algorithm {algorithm!r}; choose from {', '.join(AGENTS)}")
    config = AGENTS[algorithm][0]()
    known = registry.backends(env) if env in registry.names() else ()
    backend = backend or (known[0] if known else None)
    changes = TASKS.get(env, {}) | (SMALL if env in ANALYTIC else {})
    updates = UPDATES
    if backend == "compliant" or (backend or "").endswith("-smoothed"):
        changes = changes | COMPLIANT.get(env, {})
        updates = updates | COMPLIANT_UPDATES
    if algorithm in LEARNED:
        length = {k: v for k, v in changes.items() if k == "episode_length"}
        changes = length | LEARNED_TASKS.get(env, {})
        updates = LEARNED_UPDATES
    config = replace(config, **{k: v for k, v in changes.items() if hasattr(config, k)})
    count = updates.get(env, 200)
    slow = (backend or "").removesuffix("-smoothed") in SLOW
    return TrainSettings(
        algorithm=algorithm,
        env=env,
        backend=backend,
        updates=count,
        eval_every=max(20, count // EVALUATIONS),
        eval_episodes=SLOW_EPISODES if slow else TrainSettings.eval_episodes,
        checkpoint_every=max(20, count // CHECKPOINTS),
        agent=config,
    )
