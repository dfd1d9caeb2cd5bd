"""Compliant contact: analytic motion, MuJoCo where nothing touches, and a gradient that is right."""

import copy
from functools import partial

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from brax import envs
from brax.io import mjcf

from rpgjax.envs import registry
from rpgjax.envs.quiet import quiet_models
from rpgjax.physics import compliant_dense, compliant_step
from rpgjax.physics.batched_step import batched_step
from rpgjax.physics.capsules import closest
from rpgjax.physics.compliance import Compliance, constants, press
from rpgjax.physics.compliant import compliant, dense_pipeline, fast_pipeline
from rpgjax.physics.compliant_dense import solve
from rpgjax.physics.compliant_step import compliant_physics
from rpgjax.physics.compliant_system import compliant_system
from rpgjax.physics.components import opaque_one
from rpgjax.physics.fluid import repair_brax
from rpgjax.physics.ground import UnsupportedSystemError, ground_points

pytestmark = pytest.mark.usefixtures("brax_physics")

G = 9.81
FLOOR = '<geom name="floor" type="plane" size="50 50 1" friction="{mu} 0.005 0.0001"/>'
BALL = """<body pos="0 0 0"><joint type="free"/>
    <geom type="sphere" size="0.1" mass="2" friction="{mu}"/></body>"""
# It slides and does not turn: a block, as far as friction knows.
BLOCK = """<body pos="0 0 0"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>
    <joint type="slide" axis="0 0 1"/><geom type="sphere" size="0.1" mass="2" friction="{mu}"/></body>"""
PENDULUM = """<body pos="0 0 3"><joint type="hinge" axis="0 1 0"/>
    <geom type="sphere" pos="0 0 -1" size="0.05" mass="1.5"/></body>"""
STOPPED = """<body pos="0 0 3"><joint name="j" type="hinge" axis="0 0 1" limited="true" range="-30 30"/>
    <geom type="sphere" pos="0.5 0 0" size="0.05" mass="1"/></body>"""
MOTOR = '<actuator><motor joint="j" gear="20" ctrllimited="true" ctrlrange="-1 1"/></actuator>'


def system(body, mu=1.0, slope=0.0, actuator=""):
    """A body over a floor, on a slope of `slope` rad that goes down along x."""
    down = f"{G * np.sin(slope)} 0 {-G * np.cos(slope)}"
    xml = f"""<mujoco><compiler angle="degree"/><option gravity="{down}"/><worldbody>
        {FLOOR.format(mu=mu)}{body.format(mu=mu)}</worldbody>{actuator}</mujoco>"""
    with quiet_models():
        return mjcf.loads(xml)


def simulate(sys, q, qd, seconds, timestep=0.005, action=None, compliance=Compliance()):
    """q and qd after every step, (steps, ...)."""
    fast = compliant_system(sys, compliance, timestep)
    action = jnp.zeros(sys.act_size()) if action is None else action
    tau = compliant_physics(fast).drive(action[:, None])

    def step(now, _):
        after = compliant_step.substep(fast, now, tau)
        return after, after

    start = jnp.asarray(q, float)[:, None], jnp.asarray(qd, float)[:, None]
    run = jax.jit(lambda now: jax.lax.scan(step, now, None, round(seconds / timestep))[1])
    return jax.tree.map(lambda x: np.asarray(x)[..., 0], run(start))


def at_height(z):
    return [0.0, 0.0, z, 1.0, 0.0, 0.0, 0.0]


def test_free_fall():
    q, qd = simulate(system(BALL), at_height(9.0), np.zeros(6), 1.0)
    n = np.arange(1, 201)
    np.testing.assert_allclose(q[:, 2], 9.0 - G * 0.005**2 * n * (n + 1) / 2, rtol=1e-4)
    np.testing.assert_allclose(qd[:, 2], -G * 0.005 * n, rtol=1e-4)


def test_a_pendulums_period():
    q, _ = simulate(system(PENDULUM), [0.05], [0.0], 9.0, timestep=0.002)
    crossed = np.flatnonzero((q[:-1, 0] > 0) & (q[1:, 0] <= 0))
    period = 0.002 * (crossed[-1] - crossed[0]) / (len(crossed) - 1)
    inertia = 1.5 * (1.0 + 0.4 * 0.05**2)
    assert period == pytest.approx(2 * np.pi * np.sqrt(inertia / (1.5 * G)), rel=3e-3)


def test_at_rest_the_ground_carries_the_weight_and_gives_by_the_sag():
    for sag in (0.01, 0.002):
        compliance = Compliance(sag=sag, smoothing=sag / 10)
        q, qd = simulate(system(BALL), at_height(0.1), np.zeros(6), 4.0, compliance=compliance)
        assert abs(qd[-1]).max() < 1e-4
        assert 0.1 - q[-1, 2] == pytest.approx(sag, rel=0.02)
        known = constants(system(BALL), compliance)
        push, _, load = press(
            jnp.asarray(q[-1, 2] - 0.1),
            jnp.zeros(()),
            known.stiffness,
            known.damping,
            compliance.smoothing,
            0.005,
        )
        assert float(push) == pytest.approx(2.0 * G, rel=2e-3) == float(load)


def test_below_the_friction_cone_a_block_creeps_at_the_slip_speed_and_above_it_slides():
    slope, mu = 0.3, 1.0
    rest = [0.0, 0.0, 0.09]
    _, qd = simulate(system(BLOCK, mu, slope), rest, np.zeros(3), 3.0)
    part = np.tan(slope) / mu
    assert qd[-1, 0] == pytest.approx(0.1 * part / np.sqrt(1 - part**2), rel=0.02)
    _, slow = simulate(
        system(BLOCK, mu, slope), rest, np.zeros(3), 3.0, compliance=Compliance(slip=0.01)
    )
    assert slow[-1, 0] == pytest.approx(0.1 * qd[-1, 0], rel=0.05)
    slope, mu = 0.6, 0.3
    _, qd = simulate(system(BLOCK, mu, slope), rest, np.zeros(3), 3.0)
    acceleration = (qd[-1, 0] - qd[-201, 0]) / 1.0
    assert acceleration == pytest.approx(G * (np.sin(slope) - mu * np.cos(slope)), rel=0.01)


def test_a_bouncing_balls_energy_never_grows():
    q, qd = simulate(system(BALL), at_height(0.6), np.zeros(6), 4.0, timestep=0.0025)
    energy = 2.0 * (G * q[:, 2] + 0.5 * np.sum(qd[:, :3] ** 2, axis=1))
    assert energy.max() <= 2.0 * G * 0.6 * (1 + 1e-3)
    up = np.flatnonzero((qd[:-1, 2] > 0.02) & (qd[1:, 2] <= 0.02))
    peaks = q[up, 2]
    assert np.all(np.diff(peaks) < 1e-4)
    assert q[-1, 2] < 0.1 and abs(qd[-1, 2]) < 1e-3


def test_contacts_and_stops_push_and_hold_back_little():
    gap, speed = np.meshgrid(np.linspace(-0.03, 0.02, 41), np.linspace(-3, 3, 41))
    push, resistance, load = press(jnp.asarray(gap), jnp.asarray(speed), 2e3, 80.0, 2e-3, 0.01)
    force = np.asarray(push - resistance * speed)
    assert np.all(force[speed <= 0] > 0) and force.max() > 100.0
    assert np.all(np.asarray(load) >= 0.0)
    # As it opens at 3 m/s from a depth of 1 mm: a fifth of what a damper of constant strength would pull.
    _, held, _ = press(jnp.asarray(-1e-3), jnp.asarray(3.0), 2e3, 80.0, 2e-3, 0.0)
    assert float(held) < 0.2 * 80.0
    assert np.abs(force[gap > 0.018]).max() < 0.1, "out of reach, nothing"


def test_a_stop_gives_by_the_overrun_to_the_joints_own_actuator():
    sys = system(STOPPED, actuator=MOTOR)
    limit = np.radians(30.0)
    for overrun in (0.05, 0.01):
        compliance = Compliance(overrun=overrun, stop_smoothing=overrun / 10)
        q, qd = simulate(sys, [0.0], [0.0], 3.0, action=jnp.ones(1), compliance=compliance)
        assert q[-1, 0] - limit == pytest.approx(overrun, rel=0.03)
        assert abs(qd[-1, 0]) < 1e-3
        # It arrives at speed: how far a spring alone, against the motor's 20 N m, would let it go.
        energy = 0.5 * (0.25 + 0.4 * 0.05**2) * qd.max() ** 2
        farthest = overrun * (1.0 + np.sqrt(1.0 + 2.0 * energy / (20.0 * overrun)))
        assert q.max() - limit < 0.6 * farthest
        q, _ = simulate(sys, [0.0], [0.0], 3.0, action=-jnp.ones(1), compliance=compliance)
        assert -limit - q[-1, 0] == pytest.approx(overrun, rel=0.03)


def task_system(name):
    repair_brax()  # the swimmer's fluid
    with quiet_models():
        return envs.get_environment(name, backend="generalized").sys


def somewhere(sys, seed, spread=0.3):
    """q near the start, qd and an action."""
    draw = np.random.default_rng(seed)
    q = np.asarray(sys.init_q, float) + spread * draw.normal(size=sys.q_size())
    for place in constants(sys, Compliance()).free[0]:
        q[place[3:]] /= np.linalg.norm(q[place[3:]])
    return q, draw.normal(size=sys.qd_size()), draw.uniform(-1, 1, sys.act_size())


def in_mujoco(sys, q, qd, action):
    data = mujoco.MjData(sys.mj_model)
    data.qpos, data.qvel, data.ctrl = q, qd, action
    mujoco.mj_forward(sys.mj_model, data)
    return data


@pytest.mark.parametrize("name", ["ant", "halfcheetah"])
def test_without_contacts_accelerations_are_mujocos(name, x64):
    sys = task_system(name)
    q, qd, action = somewhere(sys, 0, spread=0.05)
    joints, limits = np.asarray(sys.q_idx("123")), np.asarray(sys.dof.limit)
    low, high = limits[:, np.asarray(sys.qd_idx("123"))]
    held, draw = np.isfinite(low), np.random.default_rng(1)
    part = 0.3 + 0.4 * draw.random(held.sum())
    q[joints[held]] = low[held] + part * (high - low)[held]
    q[1 if name == "halfcheetah" else 2] = 3.0
    data = in_mujoco(sys, q, qd, action)
    assert data.ncon == 0
    timestep = 1e-7
    fast = compliant_system(sys, Compliance(), timestep)
    tau = compliant_physics(fast).drive(jnp.asarray(action)[:, None])
    _, after = jax.jit(lambda now: compliant_step.substep(fast, now, tau, opaque_one(tau)))(
        (jnp.asarray(q)[:, None], jnp.asarray(qd)[:, None])
    )
    np.testing.assert_allclose((after[:, 0] - qd) / timestep, data.qacc, rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize("name", ["ant", "humanoid"])
def test_places_and_velocities_of_links_are_mujocos(name, x64):
    sys = task_system(name)
    q, qd, action = somewhere(sys, 2)
    fast = compliant_system(sys, Compliance(), 0.01)
    out = jax.jit(lambda now: compliant_step.outputs(fast, now, ()))(
        (jnp.asarray(q)[:, None], jnp.asarray(qd)[:, None])
    )
    data = in_mujoco(sys, q, qd, action)
    np.testing.assert_allclose(out.position[..., 0], data.xpos[1:], atol=1e-6)
    turned = np.abs(np.sum(out.rotation[..., 0] * data.xquat[1:], axis=1))
    np.testing.assert_allclose(turned, 1.0, atol=1e-6)  # q and -q are one rotation
    moving = np.zeros(6)
    for link in range(sys.num_links()):
        body = mujoco.mjtObj.mjOBJ_XBODY
        mujoco.mj_objectVelocity(sys.mj_model, data, body, link + 1, moving, 0)
        np.testing.assert_allclose(out.angular[link, :, 0], moving[:3], atol=1e-5)
        np.testing.assert_allclose(out.velocity[link, :, 0], moving[3:], atol=1e-5)


FOREST = """<body pos="0 0 0.1"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
    <geom type="capsule" size="0.1" fromto="-0.3 0 0 0.3 0 0"/>
    <body pos="-0.3 0 0" quat="0.9 0.1 0.3 0"><joint type="hinge" axis="0 1 0" stiffness="3" damping="0.4"/>
        <geom type="sphere" pos="0 0 -0.2" size="0.08"/></body>
    <body pos="0.3 0 0"><joint type="hinge" axis="1 2 0" pos="0 0 0.05" limited="true" range="-10 20"/>
        <joint type="hinge" axis="2 -1 0" pos="0 0 0.05" armature="0.01"/>
        <geom type="capsule" size="0.05" fromto="0 0 0 0.1 0.1 -0.2"/>
        <body pos="0.1 0.1 -0.2"><joint type="hinge" axis="0 0 1"/>
            <geom type="box" size="0.1 0.05 0.02" contype="0" conaffinity="0"/></body></body></body>
    <body pos="2 0 0.1"><joint type="slide" axis="0 0 1"/><joint type="slide" axis="1 0 0"/>
        <geom type="sphere" size="0.1"/></body>
    <body pos="0 2 0.08"><joint type="free"/><geom type="capsule" size="0.1 0.2"/></body>"""


def forest():
    """Trees of many kinds: two roots of one kind, a free one, branches, axes at an angle, one stop."""
    with quiet_models():
        return mjcf.loads(
            f"""<mujoco><compiler angle="degree"/><default><geom contype="0" conaffinity="1"/></default>
            <worldbody><geom name="floor" type="plane" size="9 9 1" contype="1" conaffinity="0"/>
            {FOREST}</worldbody></mujoco>"""
        )


def swimmer():
    """A free link and a hinged one in a fluid, both with three different inertias, at an angle."""
    repair_brax()
    with quiet_models():
        return mjcf.loads(
            """<mujoco><option density="9000" viscosity="20"/>
            <default><geom type="box" contype="0" conaffinity="0"/></default><worldbody>
            <body><joint type="free"/><geom size="0.1 0.2 0.05" quat="0.9 0.2 0.3 -0.1"/>
            <body pos="0.1 0.2 0"><joint type="hinge" axis="1 2 3"/>
            <geom size="0.05 0.1 0.3" pos="0 0.1 -0.3" quat="0.8 -0.4 0.1 0.3"/></body></body>
            </worldbody></mujoco>"""
        )


def pushing():
    """An arm whose fingers touch an object that turns and slides, and another object."""
    with quiet_models():
        return mjcf.loads(
            """<mujoco><compiler angle="degree"/><default>
            <geom contype="0" conaffinity="0"/></default><worldbody>
            <body pos="0 0 0.3"><joint type="hinge" axis="0 0.6 0.8" armature="0.04"/>
            <geom type="capsule" fromto="0.3 0.1 0 0.6 0.2 0" size="0.05" conaffinity="1" friction="0.7 0 0"/>
            <geom type="capsule" fromto="0.5 0.1 0.1 0.5 0.1 -0.1" size="0.05" conaffinity="1"/></body>
            <body pos="0.62 0.12 0.3"><joint type="slide" axis="1 0 0" damping="0.5"/><joint axis="0 1 1"/>
            <geom type="capsule" fromto="0 0 -0.1 0 0.02 0.1" size="0.06" contype="1"
                friction="0.9 0 0"/></body>
            <body pos="0 2 0.3"><joint type="slide" axis="1 0 0" damping="0.5"/><joint axis="0 1 1"/>
            <geom type="sphere" size="0.06"/></body></worldbody></mujoco>"""
        )


def test_links_that_push_each_other_are_the_whole_matrix_at_once(x64):
    """But for where two capsules are closest: MJX keeps its quotients from 0 by 1e-6."""
    sys, compliance, timestep = pushing(), Compliance(), 0.01
    known, fast = constants(sys, compliance), compliant_system(sys, compliance, timestep)
    draw = np.random.default_rng(0)
    q, qd = (jnp.asarray(k * draw.normal(size=(6, sys.q_size()))) for k in (0.05, 1.0))
    tau = jnp.zeros((sys.qd_size(), len(q)))
    weights = jnp.asarray(draw.normal(size=qd.shape))

    def dense(q, qd):
        step = partial(compliant_dense.substep, sys, known, compliance, timestep)
        return jax.vmap(lambda q, qd: step(q, qd, jnp.zeros(0))[1])(q, qd)

    def ours(q, qd):
        return compliant_step.substep(fast, (q.T, qd.T), tau)[1].T

    def both(step):
        seen = jax.jit(jax.value_and_grad(lambda q, qd: jnp.sum(weights * step(q, qd)), (0, 1)))
        return seen(q, qd)[1], jax.jit(step)(q, qd)

    (expected, theirs), (gradient, found) = both(dense), both(ours)
    np.testing.assert_allclose(found, theirs, rtol=2e-4, atol=1e-4)
    for a, b in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    pushed = np.abs(np.asarray(theirs - qd))[:, 1:3].max(1)
    assert pushed.max() > 1.0 and pushed.min() < 0.1, "some touch, some do not"


def test_the_closest_points_of_two_segments_are_those_of_a_search():
    draw = np.random.default_rng(1)
    grid = np.linspace(-1, 1, 201)
    for _ in range(20):
        (p, u), (q, v) = draw.normal(size=(2, 2, 3))
        there = p + grid[:, None, None] * u - q - grid[:, None] * v
        lowest = np.sqrt((there**2).sum(-1)).min()
        s, t = closest((tuple(p), tuple(q)), (tuple(u), tuple(v)))
        found = np.linalg.norm(p + s * u - q - t * v)
        assert lowest - 0.02 <= found <= lowest + 1e-6


def weights_like(tree):
    draw = np.random.default_rng(7)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape)), tree)


@pytest.mark.parametrize("make", [forest, swimmer])
def test_a_link_at_a_time_is_the_whole_matrix_at_once(make, x64):
    """Values and gradients of a substep, on what touches the ground, is past its stop, or swims."""
    sys, compliance, timestep = make(), Compliance(), 0.01
    known, fast = constants(sys, compliance), compliant_system(sys, compliance, timestep)
    starts = [somewhere(sys, seed)[:2] for seed in range(4)]
    q, qd = (jnp.stack(each) for each in zip(*starts, strict=True))
    weights = weights_like((q, qd))

    def seen(after):
        return sum(jnp.sum(w * x) for w, x in zip(weights, after, strict=True))

    def dense(q, qd):
        step = partial(compliant_dense.substep, sys, known, compliance, timestep)
        after = jax.vmap(lambda q, qd: step(q, qd, jnp.zeros(0)))(q, qd)
        return seen(after), after

    def ours(q, qd):
        tau = jnp.zeros((sys.qd_size(), len(q)))
        after = jax.tree.map(jnp.transpose, compliant_step.substep(fast, (q.T, qd.T), tau))
        return seen(after), after

    (place,) = known.free[0][:, 3:]

    def around(gradient):
        """Without the part that lengthens the quaternion: Brax normalises it once more."""
        unit = q[:, place]
        along = jnp.sum(gradient[:, place] * unit, axis=1, keepdims=True)
        return gradient.at[:, place].add(-along * unit)

    (_, theirs), expected = jax.jit(jax.value_and_grad(dense, (0, 1), has_aux=True))(q, qd)
    (_, found), gradient = jax.jit(jax.value_and_grad(ours, (0, 1), has_aux=True))(q, qd)
    for a, b in (
        *zip(found, theirs, strict=True),
        (around(gradient[0]), around(expected[0])),
        (gradient[1], expected[1]),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)
    assert float(jnp.abs(theirs[1] - qd).max()) > 1.0, "something is pushed"


@pytest.mark.parametrize("name", ["walker2d", "reacher", "swimmer"])
def test_tasks_take_the_fast_path_and_it_is_the_slow_one(name, x64):
    sys, compliance = task_system(name), Compliance()
    slow = dense_pipeline(sys, compliance, 0.01, 2)
    quick = fast_pipeline(sys, compliance, 0.01, 2)
    q, qd, action = map(jnp.asarray, somewhere(sys, 3))
    a, b = (jax.jit(lambda p=p: p.step(p.init(q, qd), action))() for p in (slow, quick))
    np.testing.assert_allclose(a.q, b.q, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(a.qd, b.qd, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(a.x.pos, b.x.pos, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("more", ["", "<geom size='0.05' pos='0.1 0 0'/>"], ids=["one", "more"])
def test_twins_at_one_place_touch_as_the_whole_matrix_says(more, x64):
    """Links in one place until their joints turn; only the second touches, or has a child."""
    twins = "".join(
        f"""<body pos="0 0 -0.2"><joint axis="0 1 {i}"/>
        <geom type="capsule" fromto="0 0 0 0 0 -0.4" size="0.05" contype="{i}"/>{child}</body>"""
        for i, child in (
            (0, ""),
            (1, f'<body><joint axis="1 0 0"/><geom size="0.06"/>{more}</body>'),
        )
    )
    with quiet_models():
        sys = mjcf.loads(
            f"""<mujoco><compiler angle="degree"/><default><geom contype="0" conaffinity="0"/></default>
            <worldbody><geom type="plane" size="9 9 1" conaffinity="1"/>
            <body pos="0 0 0.5"><joint type="slide" axis="0 0 1"/><joint axis="0 1 0"/>
            <geom size="0.1"/>{twins}</body></worldbody></mujoco>"""
        )
    slow, quick = (make(sys, Compliance(), 0.01, 2) for make in (dense_pipeline, fast_pipeline))
    q, qd = jnp.array([-0.05, 0.1, 0.2, -0.3, 0.4]), jnp.array([-1.0, 0.3, 0.2, -0.1, 0.5])
    a, b = (jax.jit(lambda p=p: p.step(p.init(q, qd), jnp.zeros(0)))() for p in (slow, quick))
    np.testing.assert_allclose(a.qd, b.qd, rtol=1e-8, atol=1e-8)
    assert float(a.qd[0]) > -0.9, "the ground pushes"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_contacts_that_are_alike_count_as_often_as_they_are_there(count, x64):
    with quiet_models():
        sys = mjcf.loads(
            f"""<mujoco><worldbody><geom type="plane" size="9 9 1" contype="0"/>
            <body pos="0 0 0.09"><joint type="slide" axis="0 0 1"/><joint type="slide" axis="1 0 0"/>
            {"<geom size='0.1'/>" * count}</body></worldbody></mujoco>"""
        )
    q, qd = jnp.zeros(2), jnp.array([-1.0, 0.3])
    slow, quick = (make(sys, Compliance(), 0.01, 2) for make in (dense_pipeline, fast_pipeline))
    a, b = (jax.jit(lambda p=p: p.step(p.init(q, qd), jnp.zeros(0)))() for p in (slow, quick))
    np.testing.assert_allclose(a.qd, b.qd, rtol=1e-8, atol=1e-8)
    assert float(a.qd[0]) > -0.9, "the ground pushes"


def test_contacts_that_the_model_turns_off_are_off():
    ball = """<geom type="plane" size="9 9 1"/><body pos="0 0 0.05"><joint type="slide" axis="0 0 1"/>
        <geom size="0.1"/></body>"""
    found = {}
    for off in ("disable", "enable"):
        with quiet_models():
            sys = mjcf.loads(
                f"<mujoco><option><flag contact='{off}'/></option><worldbody>{ball}</worldbody></mujoco>"
            )
        found[off] = len(ground_points(sys, np.zeros((1, 3))))
    assert found == {"disable": 0, "enable": 1}


def test_a_free_joint_that_is_damped_takes_the_slow_path():
    with quiet_models():
        sys = mjcf.loads(
            """<mujoco><worldbody><body><joint type="free" damping="1"/><geom size="0.1"/></body>
            </worldbody></mujoco>"""
        )
    with pytest.raises(UnsupportedSystemError, match="free joint with damping"):
        compliant_system(sys, Compliance(), 0.01)


def test_models_that_brax_refuses_are_refused():
    env = envs.get_environment("inverted_pendulum", backend="generalized")
    model = copy.deepcopy(env.sys.mj_model)
    model.qpos0[0] = 0.5  # a joint's ref
    env.sys = env.sys.tree_replace({"mj_model": model})
    with pytest.raises(NotImplementedError, match="`ref`"):
        compliant(env)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('<contact><pair geom1="a" geom2="b"/></contact>', "explicit contact pair"),
        ('<custom><numeric name="max_contact_points" data="1"/></custom>', "limit on the number"),
    ],
)
def test_links_that_touch_by_other_rules_are_not_for_the_fast_path(more, says):
    touch = "0" if "pair" in more else "1"  # MuJoCo's own rule, or the explicit pair
    balls = "".join(
        f"""<body pos="{x} 0 0.5"><joint type="slide" axis="1 0 0"/>
        <geom name="{name}" type="capsule" size="0.1 0.1" contype="{touch}"/></body>"""
        for name, x in (("a", 0.0), ("b", 0.15))
    )
    with quiet_models():
        sys = mjcf.loads(f"<mujoco><worldbody>{balls}</worldbody>{more}</mujoco>")
    with pytest.raises(UnsupportedSystemError, match=says):
        compliant_system(sys, Compliance(), 0.01)


def test_what_the_fast_path_does_not_know_takes_the_slow_one():
    balls = "".join(
        f"""<body pos="{x} 0 0.5"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/>
        <geom type="sphere" size="0.1"/></body>"""
        for x in (0.0, 0.15)
    )
    with quiet_models():
        sys = mjcf.loads(f"<mujoco><worldbody>{balls}</worldbody></mujoco>")
    with pytest.raises(UnsupportedSystemError, match="something else than capsules"):
        compliant_system(sys, Compliance(), 0.01)
    pipeline = dense_pipeline(sys, Compliance(), 0.01, 2)
    start = pipeline.init(sys.init_q, jnp.zeros(4))
    after = jax.jit(pipeline.step)(start, jnp.zeros(0))
    assert float(after.qd[2] - after.qd[0]) > 0.01, "they push each other apart"


def test_an_environment_step_is_its_substeps_and_so_is_its_gradient(x64):
    """Through `vmap`, blocks and hand-written reverse mode: as differentiating the substeps."""
    sys, compliance, timestep = task_system("inverted_double_pendulum"), Compliance(), 0.01
    fast = compliant_system(sys, compliance, timestep)
    step = batched_step(compliant_physics(fast), 3)
    starts = [somewhere(sys, seed) for seed in range(3)]
    q, qd, action = (jnp.stack(each) for each in zip(*starts, strict=True))

    def alone(q, qd, action):
        out = step((q[:, None], qd[:, None]), action[:, None])
        return jax.tree.map(lambda x: x[..., 0], out)

    def plainly(q, qd, action):
        now, tau = (q.T, qd.T), compliant_physics(fast).drive(action.T)
        for _ in range(3):
            now = compliant_step.substep(fast, now, tau)
        return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), compliant_step.outputs(fast, now, ()))

    weights = weights_like(jax.eval_shape(plainly, q, qd, action))

    def value(run):
        def weighed(*start):
            products = jax.tree.map(lambda w, x: jnp.sum(w * x), weights, run(*start))
            return sum(jax.tree.leaves(products))

        return jax.jit(jax.value_and_grad(weighed, (0, 1, 2)))(q, qd, action)

    for a, b in zip(
        jax.tree.leaves(value(jax.vmap(alone))), jax.tree.leaves(value(plainly)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_the_solver_and_its_derivative(x64):
    keys = jax.random.split(jax.random.key(0), 3)
    root = jax.random.normal(keys[0], (5, 5))
    matrix, vector = root @ root.T + jnp.eye(5), jax.random.normal(keys[1], (5,))
    weight = jax.random.normal(keys[2], (5,))

    def ours(matrix, vector):
        return weight @ solve(matrix, vector)

    def theirs(matrix, vector):
        return weight @ jnp.linalg.solve(matrix, vector)

    np.testing.assert_allclose(solve(matrix, vector), jnp.linalg.solve(matrix, vector), rtol=1e-9)
    for a, b in zip(
        jax.grad(ours, (0, 1))(matrix, vector),
        jax.grad(theirs, (0, 1))(matrix, vector),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-8)


def test_the_gradient_through_a_landing_is_that_of_differences(x64):
    """A block is thrown on a slope, lands, and slides: through contact's setting in, and friction."""
    sys = system(BLOCK, mu=0.5, slope=0.2)
    fast = compliant_system(sys, Compliance(), 0.01)

    def end(speed):
        def step(now, _):
            return compliant_step.substep(fast, now, jnp.zeros((3, 1))), None

        start = jnp.array([[0.0, 0.0, 0.13]]).T, jnp.array([[0.4, -0.2, speed]]).T
        q, qd = jax.lax.scan(step, start, None, 30)[0]
        return jnp.sum(q[:, 0] * jnp.array([1.0, 2.0, 30.0])) + jnp.sum(qd)

    end = jax.jit(end)
    for speed in (-1.0, -0.3, 0.2):
        slope = float(jax.grad(end)(speed))
        differences = float(end(speed + 1e-6) - end(speed - 1e-6)) / 2e-6
        assert slope == pytest.approx(differences, rel=1e-5) and abs(slope) > 1e-3


def test_tasks_know_their_backend_and_keep_their_time():
    env = registry.make("halfcheetah", "compliant")
    assert env.backend == "compliant"
    state = jax.jit(env.reset)(jax.random.key(0))
    after = jax.jit(env.step)(state, jnp.ones(6))
    assert float(env.dt) == pytest.approx(0.05)
    assert np.all(np.isfinite(after.obs)) and not np.allclose(after.obs, state.obs)


def test_what_is_wrong_is_one_clear_line():
    for field in ("sag", "slip", "smoothing", "overrun", "stop_smoothing", "longest_step"):
        with pytest.raises(ValueError, match=f"{field} must be positive, not 0"):
            Compliance(**{field: 0.0})
    with pytest.raises(ValueError, match="generalized environment, not spring"):
        compliant(envs.get_environment("inverted_pendulum", backend="spring"))
