"""MJX's constraint solver in reverse mode, against central differences in float64."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

from rpgjax.physics import implicit_mjx

pytestmark = pytest.mark.usefixtures("brax_physics", "x64")

MODEL = """
<mujoco>
  <option timestep="0.005" cone="{cone}" iterations="{iterations}" solver="Newton"
          tolerance="1e-14" integrator="{integrator}"/>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1" friction="0.6 0.005 0.0001"/>
    <body pos="0 0 0.095">
      <joint name="x" type="slide" axis="1 0 0" frictionloss="0.4"/>
      <joint name="z" type="slide" axis="0 0 1"/>
      <joint name="pitch" type="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="-0.3 0 0 0.3 0 0" size="0.1" density="300"/>
      <body pos="0.3 0 0.1">
        <joint name="arm" type="hinge" axis="0 1 0" range="-20 20" limited="true" damping="0.1"/>
        <geom type="capsule" fromto="0 0 0 0 0 0.4" size="0.05" density="300"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor joint="arm" gear="20"/>
    <motor joint="x" gear="10"/>
  </actuator>
</mujoco>
"""
STEPS = 4
CASES = [
    {"cone": "pyramidal"},
    {"cone": "elliptic"},
    {"cone": "pyramidal", "integrator": "implicitfast"},
]


def model_and_data(cone="pyramidal", iterations=50, integrator="Euler"):
    """Pressed to the floor, sliding, with the arm beyond its limit: every kind of row is active."""
    text = MODEL.format(cone=cone, iterations=iterations, integrator=integrator)
    native = mujoco.MjModel.from_xml_string(text)
    model = mjx.put_model(native, impl="jax")
    data = mjx.make_data(native, impl="jax")
    qpos = jnp.array([0.0, 0.0, 0.02, 0.4])
    qvel = jnp.array([0.5, -0.2, 0.3, 0.5])
    return model, data.replace(qpos=qpos, qvel=qvel)


def trajectory(step, model, data, controls):
    """States after every step."""

    def body(data, control):
        data = step(model, data.replace(ctrl=control))
        return data, (data.qpos, data.qvel, data._impl.efc_force)

    return jax.lax.scan(body, data, controls)[1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_gradients_equal_central_differences_and_values_are_mjx_s_own(case):
    model, data = model_and_data(**case)
    controls = jnp.array(np.random.default_rng(0).uniform(-1, 1, (STEPS, 2)))
    weights = jnp.array([1.0, 2.0, 3.0, 4.0])

    @jax.jit
    def objective(controls):
        qpos, qvel, force = trajectory(implicit_mjx.step, model, data, controls)
        return jnp.sum(qpos @ weights) + jnp.sum(qvel @ weights) + 1e-3 * jnp.sum(force**2)

    ours = jax.jit(lambda c: trajectory(implicit_mjx.step, model, data, c))(controls)
    theirs = jax.jit(lambda c: trajectory(mjx.step, model, data, c))(controls)
    for mine, other in zip(ours, theirs, strict=True):
        assert jnp.array_equal(mine, other)
    assert jnp.count_nonzero(ours[2][0]) > 2  # forces act, or the test says nothing

    gradient = jax.jit(jax.grad(objective))(controls)
    step = 1e-6
    for index in np.ndindex(controls.shape):
        shift = jnp.zeros_like(controls).at[index].set(step)
        central = (objective(controls + shift) - objective(controls - shift)) / (2 * step)
        assert gradient[index] == pytest.approx(float(central), rel=1e-5, abs=1e-7)


def test_gradients_reach_the_initial_state_and_the_friction():
    model, data = model_and_data("elliptic")
    controls = jnp.zeros((3, 2))

    @jax.jit
    def distance(friction, speed):
        changed = model.replace(geom_friction=model.geom_friction.at[:, 0].set(friction))
        start = data.replace(qvel=data.qvel.at[0].set(speed))
        return trajectory(implicit_mjx.step, changed, start, controls)[0][-1, 0]

    slope = jax.jit(jax.grad(distance, argnums=(0, 1)))(0.6, 0.5)
    h = 1e-6
    friction = (distance(0.6 + h, 0.5) - distance(0.6 - h, 0.5)) / (2 * h)
    speed = (distance(0.6, 0.5 + h) - distance(0.6, 0.5 - h)) / (2 * h)
    assert float(friction) < 0
    assert np.allclose(slope, (friction, speed), rtol=1e-5)


def test_a_single_iteration_keeps_mjx_s_own_derivative():
    model, data = model_and_data(iterations=1)
    controls = jnp.ones((2, 2))

    def total(step):
        return lambda c: jnp.sum(trajectory(step, model, data, c)[1])

    ours = jax.jit(jax.grad(total(implicit_mjx.step)))(controls)
    theirs = jax.jit(jax.grad(total(mjx.step)))(controls)
    assert jnp.array_equal(ours, theirs)
    assert jnp.linalg.norm(ours) > 0


def test_runge_kutta_is_refused_in_one_line():
    model, data = model_and_data(integrator="RK4")
    with pytest.raises(ValueError, match="no reverse mode for the integrator RK4"):
        implicit_mjx.step(model, data)


def test_the_derivative_keeps_the_precision_of_the_step():
    """Accelerators drop bits of a matrix product unless they are told not to."""
    model, data = model_and_data()

    def reached(control):
        with jax.default_matmul_precision("highest"):
            return implicit_mjx.step(model, data.replace(ctrl=control)).qvel.sum()

    program = str(jax.make_jaxpr(jax.grad(reached))(jnp.zeros(model.nu)))
    products = program.split("dot_general[")[1:]
    assert len(products) > 1
    assert [p for p in products if "Precision.HIGHEST" not in p.split("preferred")[0]] == []
