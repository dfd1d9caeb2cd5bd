"""Which physics an environment gets, and that the environment itself stays as it was."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import envs
from brax.envs.base import Env, PipelineEnv, State, Wrapper

from rpgjax.physics.backends import differentiable, supported, unsupported
from rpgjax.physics.compliant import compliant
from rpgjax.physics.surrogate import surrogate

pytestmark = pytest.mark.usefixtures("brax_physics")


class NoPipeline(Env):
    """An environment without physics."""

    observation_size = 1
    action_size = 1
    backend = "none"

    def reset(self, rng: jax.Array) -> State:
        return State(None, jnp.zeros(1), jnp.zeros(()), jnp.zeros(()))

    def step(self, state: State, action: jax.Array) -> State:
        return state.replace(obs=action)


def test_environments_without_physics_come_back_unchanged() -> None:
    env = NoPipeline()
    assert differentiable(env) is env
    wrapped = Wrapper(env)
    assert differentiable(wrapped) is wrapped


def test_other_steps_than_a_backends_are_left_as_they_are() -> None:
    class Pushed(type(envs.get_environment("inverted_pendulum", backend="spring"))):
        """A user's task with a step of its own."""

        def pipeline_step(self, pipeline_state: Any, action: jax.Array) -> Any:
            return super().pipeline_step(pipeline_state, action + 0.1)

    pushed = Pushed(backend="spring")
    assert differentiable(pushed) is pushed
    spring, generalized = (
        envs.get_environment("inverted_double_pendulum", backend=b)
        for b in ("spring", "generalized")
    )
    lent = surrogate(spring, compliant(generalized))
    assert differentiable(lent) is lent
    wrapped = Wrapper(lent)
    assert differentiable(wrapped) is wrapped


def heavier(env: PipelineEnv) -> PipelineEnv:
    """Four times its mass, as Brax's domain randomisation would have it."""
    mass = 4.0 * env.sys.link.inertia.mass
    env.unwrapped.sys = env.sys.tree_replace({"link.inertia.mass": mass})
    return env


def test_a_system_that_changes_later_is_stepped_or_refused() -> None:
    action = jnp.ones(1)
    for backend in ("generalized", "positional"):
        plain = envs.get_environment("inverted_pendulum", backend=backend)
        state = plain.reset(jax.random.key(0)).pipeline_state
        theirs = jax.jit(heavier(copy.copy(plain)).pipeline_step)(state, action)
        ours = jax.jit(heavier(differentiable(plain)).pipeline_step)(state, action)
        before = jax.jit(differentiable(plain).pipeline_step)(state, action)
        np.testing.assert_allclose(ours.qd, theirs.qd, rtol=1e-6)
        assert not np.allclose(ours.qd, before.qd)
    generalized, spring = (
        envs.get_environment("inverted_pendulum", backend=b) for b in ("generalized", "spring")
    )
    for env in (
        differentiable(spring),
        compliant(generalized),
        surrogate(generalized, compliant(generalized)),
    ):
        state = env.reset(jax.random.key(0)).pipeline_state
        with pytest.raises(ValueError, match="change sys first"):
            heavier(env).pipeline_step(state, action)


def test_a_wrapped_environment_is_copied_and_the_original_kept() -> None:
    env = Wrapper(envs.get_environment("inverted_pendulum", backend="spring"))
    fast = differentiable(env)
    assert isinstance(fast, Wrapper) and fast.env is not env.env
    assert "pipeline_step" in vars(fast.env) and "pipeline_step" not in vars(env.env)


@pytest.mark.parametrize(
    "name", ["ant", "hopper", "walker2d", "halfcheetah", "humanoid", "reacher"]
)
def test_the_locomotion_tasks_are_supported(name: str) -> None:
    assert supported(envs.get_environment(name, backend="spring").sys)


def test_what_is_not_supported_says_why() -> None:
    sys = envs.get_environment("pusher", backend="spring").sys
    assert "contact" in str(unsupported(sys))
    ant = envs.get_environment("ant", backend="spring").sys
    assert "fluid" in str(unsupported(ant.replace(enable_fluid=True)))
    servo = ant.actuator.replace(bias_q=jnp.ones(8))
    assert "position" in str(unsupported(ant.replace(actuator=servo)))


@pytest.mark.parametrize("backend", ["spring", "generalized"])
def test_any_backend_keeps_values_and_gradients(backend: str) -> None:
    """A cart with a pole: prismatic and hinge joints on our physics, and Brax's own rematerialised."""
    env: PipelineEnv = copy.copy(envs.get_environment("inverted_pendulum", backend=backend))
    env._n_frames = 2
    state = jax.jit(env.reset)(jax.random.PRNGKey(0))

    def value(env: PipelineEnv, action: jax.Array) -> tuple[jax.Array, Any]:
        after = env.step(env.step(state, action[0]), action[1])
        return after.reward + jnp.sum(after.obs), after

    actions = jnp.array([[0.3], [-0.8]])
    results = [
        jax.jit(jax.value_and_grad(lambda a, e=e: value(e, a), has_aux=True))(actions)
        for e in (env, differentiable(env))
    ]
    for theirs, ours in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)
    assert np.abs(results[0][1]).min() > 0


def test_mjx_steps_as_brax_has_it_and_has_a_gradient() -> None:
    env = envs.get_environment("inverted_double_pendulum", backend="mjx")
    ours = differentiable(env)
    state = jax.jit(env.reset)(jax.random.key(0))
    action = jnp.array([0.7])

    def stepped(env: Env, action: jax.Array) -> Any:
        after = env.step(env.step(state, action), -action)
        return after, after.pipeline_state.qvel.sum()

    after, _ = jax.jit(lambda a: stepped(env, a))(action)
    found, _ = jax.jit(lambda a: stepped(ours, a))(action)
    for theirs, mine in zip(*map(jax.tree.leaves, (after, found)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda a: stepped(ours, a)[1]))(action)
    assert np.isfinite(gradient).all() and np.all(gradient != 0)
