"""What tasks tell beside their reward: the chance to stay in their box, and their pace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs import Env, State

from rpgjax.envs import analytic, registry
from rpgjax.envs.episodes import episodes
from rpgjax.envs.hints import ANGLE, BOUNDS, HEIGHT, PACED, staying, with_hints

pytestmark = pytest.mark.usefixtures("brax_physics")


def test_the_chance_is_one_inside_a_half_at_the_edge_and_slopes_inwards():
    within, width = (-0.2, 0.2), 0.01
    chance = jax.vmap(lambda x: staying(x, within, width))
    slope = jax.vmap(jax.grad(lambda x: staying(x, within, width)))
    x = jnp.array([-0.3, -0.2, -0.19, 0.0, 0.19, 0.2, 0.3])
    np.testing.assert_allclose(chance(x)[jnp.array([1, 5])], 0.5, rtol=1e-4)
    assert chance(x)[3] == pytest.approx(1.0) and chance(x)[0] < 1e-4
    assert np.all(slope(x)[:3] > 0) and np.all(slope(x)[4:] < 0)
    assert slope(x)[1] == pytest.approx(1 / (4 * width), rel=1e-4)


def test_a_range_may_be_open():
    value, slope = jax.value_and_grad(lambda x: staying(x, (0.7, float("inf")), 0.05))(0.7)
    assert value == pytest.approx(0.5) and slope == pytest.approx(5.0)


@pytest.mark.parametrize("name", ["ant", "hopper"])  # a height; a height and an angle
def test_tasks_tell_their_chance_from_where_they_are(name):
    env = registry.make(name, "spring")
    bare = env.env
    state = jax.jit(env.reset)(jax.random.key(0))
    z = float(state.pipeline_state.x.pos[0, 2])
    low, high = bare._healthy_z_range
    expected = float(staying(jnp.asarray(z), (low, high), HEIGHT))
    if len(BOUNDS[name]) == 2:
        lean = state.pipeline_state.q[2]
        expected *= float(staying(lean, bare._healthy_angle_range, ANGLE))
    assert float(state.info["survival"]) == pytest.approx(expected, rel=1e-5)
    assert 0.5 < expected < 1.0, "it stands"
    np.testing.assert_array_equal(state.obs, jax.jit(bare.reset)(jax.random.key(0)).obs)


class Ledge(Env):
    """A point that is pushed along a ledge."""

    observation_size, action_size, backend = 1, 1, None

    def reset(self, rng):
        return self.at(jnp.zeros(()))

    def step(self, state, action):
        return self.at(state.pipeline_state + action[0])

    def at(self, x):
        chance = {"survival": staying(x, (-1.0, 1.0), 0.1)}
        return State(x, x[None], reward=x, done=jnp.abs(x) > 1.0, info=chance)


def test_episodes_pass_it_on_with_its_slope():
    task = episodes(Ledge(), 10, bank_size=2)
    bank = task.sample_bank(jax.random.key(0))

    def step(action):
        return task.step(bank, task.reset(bank, jax.random.key(1)), action, jax.random.key(2))[1]

    report = step(jnp.array([1.05]))
    chance = float(report.survival)
    assert bool(report.terminated) and chance == pytest.approx(1 / (1 + np.exp(0.5)), rel=1e-4)
    slope = jax.grad(lambda action: step(action).survival)(jnp.array([1.05]))
    assert float(slope[0]) == pytest.approx(-chance * (1 - chance) / 0.1, rel=1e-3)


@pytest.mark.parametrize("name", PACED)
def test_paced_tasks_measure_a_velocity(name):
    """Every task of the list has the metric; a step is traced, not run."""
    env = registry.make(name, "compliant")
    state = jax.eval_shape(env.reset, jax.random.key(0))
    action = jnp.zeros(env.action_size)
    after = jax.eval_shape(env.step, state, action)
    assert state.info["pace"].shape == after.info["pace"].shape == ()
    assert ("survival" in after.info) == (name in BOUNDS)


def test_the_pace_is_how_far_the_body_came_in_a_step():
    env = registry.make("hopper", "spring")
    before = jax.jit(env.reset)(jax.random.key(0))
    after = jax.jit(env.step)(before, jnp.ones(env.action_size))
    came = after.pipeline_state.x.pos[0, 0] - before.pipeline_state.x.pos[0, 0]
    assert float(after.info["pace"]) == pytest.approx(float(came / env.dt), rel=1e-4)
    assert abs(float(after.info["pace"])) > 1e-3
    bare = jax.jit(env.env.step)(before, jnp.ones(env.action_size))
    assert float(after.reward) == float(bare.reward)


def test_a_task_without_hints_stays_as_it_is():
    env = analytic.double_integrator()
    assert with_hints(env, "double_integrator") is env
    task = episodes(env, 10, bank_size=2)
    bank = task.sample_bank(jax.random.key(0))
    state = task.reset(bank, jax.random.key(1))
    report = task.step(bank, state, jnp.zeros(1), jax.random.key(2))[1]
    assert report.survival == 1.0 and report.pace == 0.0
