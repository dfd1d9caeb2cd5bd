"""Several runs as one program: they differ in their seeds, and in settings that may be traced arrays."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rpgjax.agents.agent import Agent, AgentState
from rpgjax.training.programs import Job, enable_compilation_cache, over_seeds, strong
from rpgjax.types import Array, Key, Metrics, may_be_traced


class Stage(NamedTuple):
    """Where a population stands. Leaves lead with (member,)."""

    update: int  # so far
    state: AgentState
    metrics: Metrics  # of the last update
    seconds: float  # since training began, compiling included


def population(
    agent_of: Callable[[Any], Agent],
    config: Any,
    seeds: Sequence[int],
    varied: Mapping[str, Sequence[float]],
    updates: int,
    every: int,
) -> Iterator[Stage]:
    """Trains members side by side: member i is `agent_of(config)` with seed i and its own settings.

    Each is the run that it would be alone, up to rounding. An accelerator takes them at once
    (`vmap`), a CPU in turn. Nothing is written: what is to last is the caller's to save.

    Args:
        agent_of: makes the agent of a configuration, `functools.partial(rpg, env)` for instance.
        config: what members have in common.
        seeds: (member,).
        varied: values (member,) of fields of `config` that differ. Their types must say `Traced`:
            what shapes a program, like sizes and horizons, cannot differ within one.
        updates: how many.
        every: updates between two stages.

    Yields:
        A stage after the first update, which is when compiling is over, then after `every` updates
        and after the last. Its state is donated to the next update: read it before going on.

    Raises:
        ValueError: no seeds, a field that cannot vary, or values that are not one for each member.
    """
    _check(config, seeds, varied)
    fields = {name: jnp.asarray(values, jnp.float32) for name, values in varied.items()}

    def agent(fields: dict[str, Array]) -> Agent:
        return agent_of(dataclasses.replace(config, **fields))

    def update(member: tuple[dict[str, Array], AgentState]):
        state, metrics = agent(member[0]).update(member[1])
        return strong(state), metrics

    def update_many(states: AgentState, count: Array) -> tuple[AgentState, Metrics]:
        step = over_seeds(update)
        shapes = jax.eval_shape(step, (fields, states))[1]
        none = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.fori_loop(0, count, lambda _, now: step((fields, now[0])), (states, none))

    def init(keys: Key) -> AgentState:
        return jax.vmap(lambda own, key: strong(agent(own).init(key)))(fields, keys)

    enable_compilation_cache()
    began = time.perf_counter()
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    shapes = jax.eval_shape(init, keys), jax.ShapeDtypeStruct((), jnp.int32)
    lowered = jax.jit(update_many, donate_argnums=0).lower(*shapes)
    compiling = Job(lowered, agent_of(config).fusion_emitters)
    states = jax.jit(init)(keys)
    program = compiling.result()
    done = 0
    while done < updates:
        stop = 1 if done == 0 else min(updates, (done // every + 1) * every)
        states, metrics = program(states, jnp.int32(stop - done))
        metrics = jax.block_until_ready(metrics)
        done = stop
        yield Stage(done, states, metrics, time.perf_counter() - began)


def _check(config: Any, seeds: Sequence[int], varied: Mapping[str, Sequence[float]]) -> None:
    if not len(seeds):
        raise ValueError("a population wants at least one seed")
    types = {field.name: field.type for field in dataclasses.fields(config)}
    for name, values in varied.items():
        if name not in types:
            raise ValueError(f"{type(config).__name__} has no field {name!r}")
        if not may_be_traced(types[name]):
            raise ValueError(f"{name!r} shapes the program: it can't differ between members")
        if len(values) != len(seeds):
            raise ValueError(f"{name!r} has {len(values)} values for {len(seeds)} members")
