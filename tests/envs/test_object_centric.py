"""What policies see of tasks with objects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.agents import APGConfig, SHACConfig, apg, shac
from rpgjax.agents.agent import normaliser
from rpgjax.envs import analytic
from rpgjax.envs.object_centric import ObjectCentric


def still(state):
    """The coordinates of an object that never moves."""
    return jnp.zeros_like(state.pipeline_state[:1])


def test_raw_observations_cannot_be_shrunk_to_nothing():
    with pytest.raises(ValueError, match="shrink"):
        ObjectCentric(analytic.double_integrator(), still, shrink=0.0)


@pytest.mark.parametrize("make, config", [(shac, SHACConfig), (apg, APGConfig)])
def test_what_has_never_moved_is_not_magnified(make, config):
    task = ObjectCentric(analytic.double_integrator(), still, shrink=0.1, frequencies=1)
    agent = make(task, config(num_envs=4, horizon=4))
    state, _ = jax.jit(agent.update)(agent.init(jax.random.key(0)))
    normalise = normaliser(state.statistics)
    slopes = np.diag(jax.jacobian(normalise)(jnp.zeros(5)))
    assert np.all(slopes[:2] <= 10.0 + 1e-4), "raw numbers, at most to their own unit"
    np.testing.assert_allclose(slopes[2:], 1.0)
