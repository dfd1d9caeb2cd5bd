"""Names to tasks."""

import os
import subprocess
import sys

import jax
import pytest

from rpgjax.envs import registry
from rpgjax.envs.analytic import LQR, bandit
from rpgjax.physics import backends, compliant

BRAX = [
    "ant",
    "halfcheetah",
    "hopper",
    "humanoid",
    "humanoidstandup",
    "inverted_double_pendulum",
    "inverted_pendulum",
    "pusher",
    "reacher",
    "swimmer",
    "walker2d",
]


def test_names_are_brax_and_analytic():
    analytic = {"bandit", "double_integrator", "lqr", "pendulum"}
    assert {*BRAX, *analytic, "gap_maze", "block_push"} <= set(registry.names())
    assert registry.names() == sorted(registry.names())


@pytest.mark.parametrize("name", BRAX)
def test_every_brax_task_builds_on_its_default_backend(name):
    env = registry.make(name)
    assert env.backend == registry.backends(name)[0]
    assert env.action_size > 0


def test_a_backend_can_be_chosen():
    assert registry.make("hopper", "positional").backend == "positional"


def test_swimmer_swims():
    # Brax's fluid forces break on JAX >= 0.10 as shipped.
    env = registry.make("swimmer")
    with jax.numpy_rank_promotion("allow"):
        state = jax.eval_shape(env.reset, jax.random.key(0))
        after = jax.eval_shape(env.step, state, jax.ShapeDtypeStruct((2,), float))
    assert after.obs.shape == state.obs.shape == (8,)


def test_physics_is_made_differentiable(monkeypatch):
    seen = []
    monkeypatch.setattr(backends, "differentiable", lambda env: seen.append(env) or env)
    assert registry.make("reacher") is seen[0]


def test_contacts_are_soft_where_they_only_lend_their_slopes(monkeypatch):
    seen, build = [], compliant.compliant
    monkeypatch.setattr(
        compliant, "compliant", lambda env, how: seen.append(how) or build(env, how)
    )
    for backend in ("compliant", "generalized-smoothed", "spring-smoothed"):
        registry.make("hopper", backend)
    assert seen[0] == registry.softness("hopper")
    assert seen[1] == seen[2] == registry.softness("hopper", "generalized-smoothed")
    assert seen[1].sag > seen[0].sag and seen[1].slip > seen[0].slip
    assert registry.softness("ant", "mjx-smoothed") == registry.softness("ant")  # soft already


def test_analytic_tasks_have_no_backend():
    assert isinstance(registry.make("lqr"), LQR)
    assert registry.backends("lqr") == ()
    with pytest.raises(ValueError, match="no physics backends"):
        registry.make("lqr", "spring")


@pytest.mark.parametrize(
    ("name", "backend", "message"),
    [
        ("half_cheetah", None, "unknown task 'half_cheetah': did you mean halfcheetah"),
        ("hoper", "spring", "did you mean hopper"),
        ("zzz", None, "known: ant, "),
        (
            "ant",
            "bullet",
            "no backend 'bullet': choose from spring, positional, generalized, mjx, compliant, ",
        ),
        (
            "swimmer",
            "spring",
            "no backend 'spring': choose from generalized, compliant, generalized-smoothed",
        ),
    ],
)
def test_what_is_unknown_is_one_clear_line(name, backend, message):
    with pytest.raises(ValueError, match=message) as error:
        registry.make(name, backend)
    assert "\n" not in str(error.value)


def test_users_register_their_own(monkeypatch):
    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))
    registry.register("mine", bandit)
    registry.register("physical", lambda backend: backend, ("a", "b"))
    assert registry.make("mine").action_size == 1
    assert registry.make("physical") == "a" and registry.make("physical", "b") == "b"
    assert "mine" in registry.names()
    with pytest.raises(ValueError, match="already registered"):
        registry.register("ant", bandit)


def run(code, folder):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": ":".join(sys.path), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )


def test_naming_tasks_imports_neither_brax_nor_jax(tmp_path):
    run(
        "import sys; from rpgjax.envs import registry; registry.names();"
        "assert not {'brax', 'jax', 'mujoco'} & set(sys.modules), 'slow import'",
        tmp_path,
    )


def test_building_a_task_is_quiet_but_hides_nothing_else(tmp_path):
    done = run(
        "import warnings, rpgjax.envs.episodes; from rpgjax.envs import registry\n"
        "from rpgjax.envs.quiet import quiet_models; registry.make('halfcheetah', 'spring')\n"
        "with quiet_models(): print('mine'); warnings.warn('my own warning')",
        tmp_path,
    )
    assert done.stdout == "mine\n"
    assert [line for line in done.stderr.splitlines() if "Warning" in line] == [
        line for line in done.stderr.splitlines() if "my own warning" in line
    ]
    assert "my own warning" in done.stderr
    assert not list(tmp_path.iterdir())  # no MUJOCO_LOG.TXT


def test_mjx_is_built_in_jax_wherever_warp_is_the_default(monkeypatch):
    from brax import envs

    seen = []
    monkeypatch.setenv("MJX_GPU_DEFAULT_WARP", "true")

    def build(name, backend):
        seen.append(os.environ["MJX_GPU_DEFAULT_WARP"])
        return bandit()

    monkeypatch.setattr(envs, "get_environment", build)
    registry.make("ant", "mjx")
    assert seen == ["false"]
    assert os.environ["MJX_GPU_DEFAULT_WARP"] == "true"


def test_a_model_that_a_backend_cannot_step_is_one_clear_line(monkeypatch):
    from brax import envs

    def refuse(name, backend):
        raise NotImplementedError("geoms of type SDF")

    monkeypatch.setattr(envs, "get_environment", refuse)
    with pytest.raises(ValueError, match="mjx does not support the task 'ant': geoms of type SDF"):
        registry.make("ant", "mjx")
