"""The fast spring physics is Brax's: same states, same gradients, any batching."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import envs
from brax.envs.base import PipelineEnv
from brax.io import mjcf

from rpgjax.physics import batched_step
from rpgjax.physics.backends import differentiable, supported

TASKS = ["ant", "hopper"]
pytestmark = pytest.mark.usefixtures("brax_physics", "x64")


def task(name: str, substeps: int) -> PipelineEnv:
    env = copy.copy(envs.get_environment(name, backend="spring"))
    env._n_frames = substeps
    return env


ODD_JOINTS = """
<mujoco><compiler angle="degree"/>
<custom><numeric name="constraint_vel_damping" data="3"/><numeric name="constraint_ang_damping" data="2"/>
<numeric name="elasticity" data="0.3"/></custom>
<default><geom contype="0" conaffinity="1"/></default>
<worldbody><geom type="plane" size="9 9 1" contype="1" conaffinity="0" friction="0.7 0 0"/>
<body pos="0 0 0.5" quat="0.9 0.1 0.3 0.2">
 <joint axis="-1 0 0" range="-20 20" limited="true" pos="0 0 .05"/><joint axis="0 0 -1" pos="0 0 .05"/>
 <joint axis="0 -1 0" range="-10 10" limited="true" pos="0 0 .05"/>
 <geom type="capsule" size="0.1" fromto="0 0 0 0.3 0.1 0"/>
 <body pos="0.3 0.1 0" quat="0.8 0.2 0 0.1">
  <joint axis="0 1 0" range="-5 5" limited="true"/><joint axis="1 0 0" range="-15 5" limited="true"/>
  <geom type="capsule" size="0.08" fromto="0 0 0 0.1 0.1 -0.35"/>
  <body pos="0.1 0.1 -.3"><joint axis="0 0 1"/><geom type="sphere" size="0.1" pos="0.05 0 -0.1"/></body>
 </body>
</body>
<body><joint type="free"/><geom type="capsule" size="0.1 0.2"/></body>
</worldbody></mujoco>
"""


def test_joints_of_every_kind_and_inertias_of_their_own_are_braxs() -> None:
    """Ball and universal joints with stops, one left-handed, beside a free body; the ground is touched."""

    class Odd(PipelineEnv):
        def reset(self, rng: Any) -> Any: ...
        def step(self, state: Any, action: Any) -> Any: ...

    env = Odd(mjcf.loads(ODD_JOINTS), backend="spring", n_frames=1)
    assert (
        supported(env.sys) and env.sys.link_types == "321f" and env.sys.spring_inertia_scale == 0.0
    )
    draw, count = np.random.default_rng(0), 20
    q = np.tile(np.asarray(env.sys.init_q), (count, 1))
    q += 0.4 * draw.normal(size=q.shape)
    q[:, 8] = draw.uniform(0.02, 0.3, count)  # the free body at the ground
    q[:, 9:13] /= np.linalg.norm(q[:, 9:13], axis=1, keepdims=True)
    qd = 2.0 * draw.normal(size=(count, env.sys.qd_size()))
    states = jax.jit(jax.vmap(env.pipeline_init))(jnp.asarray(q), jnp.asarray(qd))
    actions = jnp.zeros((count, 0))
    theirs, ours = (
        jax.jit(jax.vmap(one.pipeline_step))(states, actions) for one in (env, differentiable(env))
    )
    assert not np.allclose(theirs.xd.vel[:, -1], states.xd.vel[:, -1] + env.sys.gravity * env.dt)
    for leaf, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-9, atol=1e-9)


def rollout(env: PipelineEnv, state: Any, actions: jax.Array) -> Any:
    """Pipeline states (time, ...) of one environment."""

    def body(state: Any, action: jax.Array) -> tuple[Any, Any]:
        state = env.pipeline_step(state, action)
        return state, state

    return jax.lax.scan(body, state, actions)[1]


def start(env: PipelineEnv, height: float) -> Any:
    """A state falling towards the ground with some spin."""
    q = env.sys.init_q + 0.1 * jnp.sin(jnp.arange(env.sys.q_size()) + 1.0)
    q = q.at[2 if env.sys.link_types[0] == "f" else 1].add(height)
    qd = 0.5 * jnp.cos(3.0 * jnp.arange(env.sys.qd_size()))
    return jax.jit(env.pipeline_init)(q, qd)


def random_actions(env: PipelineEnv, *shape: int) -> jax.Array:
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (*shape, env.action_size))
    return jnp.asarray(actions)


def assert_close(ours: Any, theirs: Any, tolerance: float) -> None:
    paths = jax.tree_util.tree_leaves_with_path(theirs)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for (path, expected), actual in zip(paths, jax.tree.leaves(ours), strict=True):
        scale = 1.0 + np.max(np.abs(expected))
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("name", TASKS)
def test_states_equal_braxs_over_a_fall_and_contacts(name: str) -> None:
    env = task(name, 2)
    state, actions = start(env, -0.1), random_actions(env, 60)
    theirs = jax.jit(lambda s, a: rollout(env, s, a))(state, actions)
    ours = jax.jit(lambda s, a: rollout(differentiable(env), s, a))(state, actions)
    lowest = np.min(theirs.x.pos[:, :, 2], axis=1)
    assert np.any(np.diff(np.sign(np.diff(lowest))) > 0), "the task never bounced off the ground"
    assert_close(ours, theirs, 1e-9)


def probe(state: Any) -> jax.Array:
    """A scalar of every field of a pipeline state with unequal weights."""
    leaves = jax.tree.leaves(state)
    return sum(
        jnp.sum(x * jnp.cos(1.0 + i + jnp.arange(x.size)).reshape(x.shape))
        for i, x in enumerate(leaves)
    )


def touching(env: PipelineEnv) -> Any:
    """A state from a rollout, in contact."""
    fast = differentiable(env)
    states = jax.jit(lambda s, a: rollout(fast, s, a))(start(env, -0.1), random_actions(env, 60))
    return jax.tree.map(lambda x: x[-1], states)


def test_gradients_equal_braxs() -> None:
    # One substep: compiling Brax's own gradient is most of this test.
    env = task("hopper", 1)
    state, actions = touching(env), random_actions(env, 1) / 1.3

    def value(env: PipelineEnv, actions: jax.Array) -> jax.Array:
        return probe(jax.tree.map(lambda x: x[-1], rollout(env, state, actions)))

    theirs = jax.jit(jax.grad(lambda a: value(env, a)))(actions)
    ours = jax.jit(jax.grad(lambda a: value(differentiable(env), a)))(actions)
    assert np.abs(theirs).max() > 1e-3
    assert_close(ours, theirs, 1e-9)


def test_gradient_of_velocities_and_actions_equals_finite_differences() -> None:
    env = differentiable(task("ant", 2))
    state, actions = touching(env), random_actions(env, 2) / 1.3

    def value(velocity: jax.Array, actions: jax.Array) -> jax.Array:
        moving = state.replace(xd_i=state.xd_i.replace(vel=velocity))
        return probe(jax.tree.map(lambda x: x[-1], rollout(env, moving, actions)))

    point = state.xd_i.vel, actions
    rng = np.random.default_rng(1)
    gradient = jax.jit(jax.grad(value, (0, 1)))(*point)
    value = jax.jit(value)
    for _ in range(3):
        direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), point)
        high, low = (
            value(*jax.tree.map(lambda p, d, h=h: p + h * d, point, direction))
            for h in (1e-6, -1e-6)
        )
        products = jax.tree.map(lambda g, d: jnp.vdot(g, d), gradient, direction)
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), (high - low) / 2e-6, rtol=1e-6)


def test_any_nesting_of_vmap_and_grad_agrees() -> None:
    env = differentiable(task("hopper", 1))
    state = start(env, -0.05)
    actions = random_actions(env, 2, 3)

    def value(action: jax.Array) -> jax.Array:
        return probe(env.pipeline_step(state, action))

    def total(actions: jax.Array) -> jax.Array:
        return jnp.sum(jax.vmap(jax.vmap(value))(actions))

    one_by_one = jnp.stack(
        [jnp.stack([jax.jit(jax.grad(value))(a) for a in row]) for row in actions]
    )
    assert_close(jax.jit(jax.vmap(jax.vmap(jax.grad(value))))(actions), one_by_one, 1e-12)
    assert_close(jax.jit(jax.grad(total))(actions), one_by_one, 1e-12)


def test_fields_that_nobody_looks_at_change_no_gradient_and_save_work() -> None:
    """Gradients of some fields at a time, where the others' cotangents are known to be zero, add up."""
    env = differentiable(task("hopper", 1))
    state, action = start(env, -0.05), random_actions(env, 1)[0]

    def value(action: jax.Array, fields: tuple[str, ...]) -> jax.Array:
        after = env.pipeline_step(state, action)
        return sum(probe(getattr(after, name)) for name in fields)

    rest = ("q", "qd", "xd", "x_i", "xd_i", "j", "jd", "a_p")
    parts = [("x",), ("i_inv", "a_c"), rest, ("x", "i_inv", "a_c", *rest)]
    programs = [
        jax.jit(jax.grad(lambda a, fields=fields: value(a, fields))).lower(action)
        for fields in parts
    ]
    *some, every = (program.compile()(action) for program in programs)
    assert all(np.abs(one).max() > 1e-9 for one in some)
    assert_close(sum(some), every, 1e-12)
    work = [program.as_text().count(" = stablehlo.") for program in programs]
    assert work[0] < 0.9 * work[3]


@pytest.mark.parametrize("batch", [6, 7])  # three blocks, and no whole number of them
def test_blocks_of_environments_step_and_differentiate_as_one(batch: int, monkeypatch) -> None:
    env = task("hopper", 1)
    state, actions = start(env, -0.05), random_actions(env, batch)

    def gradients() -> tuple[jax.Array, jax.Array]:
        step = differentiable(env).pipeline_step
        value = jax.vmap(jax.value_and_grad(lambda action: probe(step(state, action))))
        return jax.jit(value)(actions)

    whole = gradients()
    monkeypatch.setattr(batched_step, "BLOCK", 2)
    assert_close(gradients(), whole, 1e-12)


def test_blocks_are_cut_and_put_together_in_order() -> None:
    x, y = jnp.arange(24.0).reshape(2, 12), jnp.arange(12.0)[None]
    seen = []

    def double(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
        seen.append(x.shape)
        return {"a": 2 * x, "b": x + y}

    result = batched_step.in_blocks(double, 4)(x, y)
    assert seen == [(2, 4)]
    assert jnp.array_equal(result["a"], 2 * x) and jnp.array_equal(result["b"], x + y)
    batched_step.in_blocks(double, 5)(x, y)  # 12 is no multiple of 5
    batched_step.in_blocks(double, None)(x, y)
    assert seen == [(2, 4), (2, 12), (2, 12)]


def test_free_fall_is_semi_implicit_eulers_closed_form() -> None:
    env = task("ant", 5)
    # Straight joints and no motion: nothing but gravity acts, high above the ground.
    q = env.sys.init_q.at[2].set(100.0).at[7:].set(jnp.asarray(env.sys.dof.limit).mean(0)[6:])
    state = jax.jit(env.pipeline_init)(q, jnp.zeros(env.sys.qd_size()))
    steps, dt = 4, float(env.sys.opt.timestep)
    fall = rollout(differentiable(env), state, jnp.zeros((steps, env.action_size)))
    n = 5 * (1 + np.arange(steps))
    speed = -9.81 * dt * n
    height = 100.0 - 9.81 * dt**2 * n * (n + 1) / 2
    np.testing.assert_allclose(fall.xd.vel[:, 0, 2], speed, rtol=1e-6)
    np.testing.assert_allclose(fall.x.pos[:, 0, 2], height, rtol=1e-9)
