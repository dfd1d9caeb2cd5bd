"""Populations: each member is the run that it would be alone."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from rpgjax.agents import SHACConfig, shac
from rpgjax.envs import analytic
from rpgjax.training.population import population

TASK = analytic.double_integrator()
CONFIG = SHACConfig(num_envs=4, horizon=3, episode_length=8, actor_hidden=(8,), critic_hidden=(8,))


@pytest.mark.parametrize("batched", [False, True], ids=["in turn", "at once"])
def test_members_are_runs_with_seeds_and_settings_of_their_own(batched, monkeypatch):
    if batched:  # as on an accelerator
        monkeypatch.setattr("rpgjax.training.population.over_seeds", jax.vmap)
    varied = {"discount": [0.9, 0.9, 0.5], "actor_learning_rate": [1e-2, 1e-3, 1e-2]}
    stages = population(partial(shac, TASK), CONFIG, [3, 4, 3], varied, updates=5, every=2)
    seen = [
        (stage.update, jax.tree.map(np.asarray, stage.state.actor), stage.metrics)
        for stage in stages
    ]
    assert [update for update, _, _ in seen] == [1, 2, 4, 5]
    for member, seed in enumerate((3, 4, 3)):
        own = {name: values[member] for name, values in varied.items()}
        agent = shac(TASK, replace(CONFIG, **own))
        state = agent.init(jax.random.key(seed))
        for _ in range(5):
            state, metrics = jax.jit(agent.update)(state)
        for mine, theirs in zip(
            jax.tree.leaves(seen[-1][1]), jax.tree.leaves(state.actor), strict=True
        ):
            np.testing.assert_allclose(mine[member], theirs, rtol=1e-3, atol=1e-5)
        for name, value in metrics.items():
            np.testing.assert_allclose(seen[-1][2][name][member], value, rtol=1e-3, atol=1e-5)


def test_what_shapes_the_program_cannot_vary():
    def start(varied):
        return next(population(partial(shac, TASK), CONFIG, [0, 1], varied, updates=1, every=1))

    with pytest.raises(ValueError, match="no field 'lr'"):
        start({"lr": [1.0, 2.0]})
    with pytest.raises(ValueError, match="'horizon' shapes the program"):
        start({"horizon": [3.0, 4.0]})
    with pytest.raises(ValueError, match="1 values for 2 members"):
        start({"discount": [0.9]})
