import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.policies import flow, velocity_field
from rpgjax.policies.flow import SOLVERS, integrate

ORDER = {"euler": 1, "midpoint": 2, "heun": 2}


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_solvers_converge_to_the_closed_form_at_their_order(solver, x64):
    # dx/du = u * x, x(1) = x(0) exp(1/2)
    start = jnp.array([1.0, -2.0])
    exact = start * np.exp(0.5)
    errors = [
        float(jnp.max(jnp.abs(integrate(lambda x, u: u * x, start, k, solver) - exact)))
        for k in (16, 32)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(ORDER[solver], abs=0.15)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.parametrize("rematerialise", [False, True])
def test_gradient_through_the_flow_equals_finite_differences(solver, rematerialise, x64):
    field = velocity_field(3, 2, hidden=(8, 8))
    head = flow(field, 2, 3, solver, rematerialise=rematerialise)
    params = head.init(jax.random.key(0))
    params = jax.tree.map(lambda x: 3.0 * x.astype(jnp.float64), params)
    observation, key = jnp.array([0.2, -0.4, 0.9]), jax.random.key(1)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def value(flat, observation):
        action = head.sample(unravel(flat), (), observation, key)[1].action
        return jnp.sum(jnp.sin(3.0 * action))

    by_params, by_observation = jax.jit(jax.grad(value, (0, 1)))(flat, observation)
    direction = jax.random.normal(jax.random.key(2), flat.shape, jnp.float64)
    step = 1e-6
    difference = value(flat + step * direction, observation) - value(
        flat - step * direction, observation
    )
    np.testing.assert_allclose(by_params @ direction, difference / (2 * step), rtol=1e-6)
    for i in range(3):
        bump = step * jnp.eye(3)[i]
        difference = value(flat, observation + bump) - value(flat, observation - bump)
        np.testing.assert_allclose(by_observation[i], difference / (2 * step), rtol=1e-5)


def test_a_new_flow_is_almost_the_identity_on_noise():
    head = flow(velocity_field(4, 2), 2)
    params, key = head.init(jax.random.key(0)), jax.random.key(1)
    drawn = head.sample(params, (), jnp.ones(4), key)[1]
    np.testing.assert_allclose(drawn.pre_squash, jax.random.normal(key, (2,)), atol=0.1)
    assert drawn.log_prob is None
    np.testing.assert_allclose(head.mode(params, (), jnp.ones(4))[1], 0.0, atol=0.1)


def test_the_mode_is_the_flow_of_zero_noise():
    field = velocity_field(1, 2, hidden=(8,))
    head = flow(field, 2, 5)
    params = jax.tree.map(lambda x: 5.0 * x, head.init(jax.random.key(0)))
    observation = jnp.ones(1)
    end = integrate(lambda x, u: field.apply(params, observation, x, u), jnp.zeros(2), 5)
    np.testing.assert_allclose(head.mode(params, (), observation)[1], jnp.tanh(end), rtol=1e-6)


@pytest.mark.parametrize(("steps", "solver"), [(0, "euler"), (4, "rk45")])
def test_impossible_settings_are_refused(steps, solver):
    with pytest.raises(ValueError, match=r"flow_steps|unknown ODE solver"):
        integrate(lambda x, u: x, jnp.zeros(1), steps, solver)
