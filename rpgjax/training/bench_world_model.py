"""How fast RPG's world model learns: GapMaze at the paper's sizes, one seed, and several as one program."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import jax
import jax.numpy as jnp
from brax.envs import Env

from rpgjax.agents import RPGConfig, rpg
from rpgjax.envs.registry import make
from rpgjax.training.programs import compile_program, over_seeds

ENV = "gap_maze"
SEEDS = 8
CALL = 4  # model updates in a call, and steps of every environment
PAPER = RPGConfig(
    episode_length=50,
    steps_per_call=CALL,
    updates_per_call=CALL,
    warm_up=0,
    replay_size=10_000,
)


class Learning(NamedTuple):
    """What was measured, medians over the rounds."""

    seeds: int
    updates_per_second: float  # of all seeds together
    env_steps_per_second: float
    compile_seconds: float
    times_one: float  # seconds of a call of all seeds over those of one seed


def measure(
    rounds: int,
    say: Callable[[str], None],
    env: Env | None = None,
    config: RPGConfig = PAPER,
    seeds: int = SEEDS,
) -> list[Learning]:
    """Times calls of one seed and of several, in turn.

    Args:
        rounds: how often.
        say: told what is going on.
        env: the task; None takes GapMaze.
        config: the settings, which collect as often as they learn.
        seeds: how many, beside one.
    """
    agent = rpg(env or make(ENV), config)
    calls, compiling = {}, {}
    for count in (1, seeds):
        say(f"compiling world model, {count} seed{'s' if count > 1 else ''} ...")
        keys = jax.vmap(jax.random.key)(jnp.arange(count))
        state = jax.jit(jax.vmap(agent.init))(keys)
        began = time.perf_counter()
        # One seed alone is a program without the axis, as in training.
        if count == 1:
            state, update = jax.tree.map(lambda x: x[0], state), agent.update
        else:
            update = over_seeds(agent.update)
        lowered = jax.jit(update, donate_argnums=0).lower(state)
        compiled = compile_program(lowered, agent.fusion_emitters)
        compiling[count] = time.perf_counter() - began
        calls[count] = Calls(compiled, state)
        calls[count].seconds()
    taken: dict[int, list[float]] = {count: [] for count in calls}
    for _ in range(rounds):
        for count, call in calls.items():
            taken[count].append(call.seconds())
    each = list(zip(*taken.values(), strict=True))
    found = []
    for index, count in enumerate(calls):
        seconds = median(taken[count])
        updates = count * config.updates_per_call / seconds
        found.append(
            Learning(
                seeds=count,
                updates_per_second=updates,
                env_steps_per_second=updates * config.num_envs,
                compile_seconds=compiling[count],
                times_one=median(one[index] / one[0] for one in each),
            )
        )
    return found


class Calls:
    """A compiled update, called again and again on its own state."""

    def __init__(self, compiled: Callable, state: object) -> None:
        self.compiled, self.state = compiled, state

    def seconds(self) -> float:
        """Of one call."""
        began = time.perf_counter()
        self.state, metrics = self.compiled(self.state)
        jax.block_until_ready((self.state, metrics))
        return time.perf_counter() - began


def lines(found: list[Learning]) -> list[str]:
    """What was measured, and whether several seeds cost what they may."""
    said = [
        f"world model ({ENV}, batch {PAPER.batch_size}, H = {PAPER.horizon}), {one.seeds} seed"
        f"{'s' if one.seeds > 1 else ''}: {one.updates_per_second:.1f} updates/s,"
        f" {one.env_steps_per_second:.0f} environment steps/s, compiled in {one.compile_seconds:.0f} s"
        for one in found
    ]
    several, on_cpu = found[-1], jax.default_backend() == "cpu"
    limit = several.seeds if on_cpu else 2.0
    verdict = "PASS" if several.times_one <= limit else "MISS"
    said.append(
        f"{verdict}: {several.seeds} seeds take {several.times_one:.1f} times one seed's seconds"
        f" (at most {limit:g} on {'a CPU' if on_cpu else 'an accelerator'})"
    )
    return said
