"""Seeds in one program, and how programs are compiled."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from toy import toy_agent

from rpgjax.envs import analytic
from rpgjax.training import programs
from rpgjax.training.population import population
from rpgjax.training.programs import build_programs, compile_program, over_seeds


@dataclass(frozen=True)
class Config:
    """Of an agent that has no settings."""


def test_seeds_in_turn_equal_seeds_one_by_one_and_batched():
    def update(state):
        key, noise = jax.random.split(state["key"])
        x = state["x"] * 0.5 + jax.random.normal(noise, (3,))
        return {"x": x, "key": key}, {"norm": jnp.linalg.norm(x)}

    keys = jax.random.split(jax.random.key(0), 4)
    states = {"x": jnp.arange(12.0).reshape(4, 3), "key": keys}
    together, metrics = jax.jit(over_seeds(update))(states)
    batched, _ = jax.jit(jax.vmap(update))(states)
    alone = [jax.jit(update)(jax.tree.map(lambda leaf, i=i: leaf[i], states)) for i in range(4)]
    assert metrics["norm"].shape == (4,)
    for index, (state, metric) in enumerate(alone):
        assert jnp.allclose(together["x"][index], state["x"], rtol=1e-6)
        assert jnp.allclose(metrics["norm"][index], metric["norm"], rtol=1e-6)
    assert jnp.allclose(together["x"], batched["x"], rtol=1e-6)
    assert not jnp.array_equal(together["x"][0], together["x"][1])
    assert jnp.array_equal(
        jax.random.key_data(together["key"]), jax.random.key_data(batched["key"])
    )


@pytest.mark.parametrize("wanted", [False, True])
def test_an_agents_programs_are_compiled_as_it_asks(wanted, monkeypatch):
    asked = []

    def noted(lowered, fusion_emitters=False):
        asked.append(fusion_emitters)
        return compile_program(lowered, fusion_emitters)

    monkeypatch.setattr(programs, "compile_program", noted)
    agent = toy_agent()._replace(fusion_emitters=wanted)
    build_programs(agent, analytic.double_integrator(), 1, 2, 4)
    assert asked == [wanted] * 3
    next(population(lambda _: agent, Config(), [0, 1], {}, updates=1, every=1))
    assert asked == [wanted] * 4


def test_a_cpu_goes_without_the_fusion_emitters_where_nobody_asks_for_them():
    class Lowered:
        def compile(self, compiler_options=None):
            return compiler_options

    assert compile_program(Lowered()) == {"xla_cpu_use_fusion_emitters": False}
    assert compile_program(Lowered(), fusion_emitters=True) is None
