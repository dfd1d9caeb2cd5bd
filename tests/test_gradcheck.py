"""Gradcheck on tasks whose gradient is known, wrong, broken or useless."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs import Env, State

from rpgjax import gradcheck as check
from rpgjax.agents.agent import Policy
from rpgjax.cli import main
from rpgjax.training.figures import gradient_quality


class Track(Env):
    """x moves by the action; the reward is a function of x, and the step count is kept."""

    observation_size = 1
    action_size = 1
    backend = "none"

    def __init__(self, reward=lambda x, t: x, start=0.0):
        self.reward, self.start = reward, start

    def reset(self, rng):
        x = jnp.full(1, self.start) + 0.0 * jax.random.uniform(rng, (1,))
        return State({"t": jnp.int32(0)}, x, jnp.zeros(()), jnp.zeros(()))

    def step(self, state, action):
        x, t = state.obs + action, state.pipeline_state["t"]
        return state.replace(
            pipeline_state={"t": t + 1},
            obs=x,
            reward=self.reward(x[0], t),
            done=(x[0] > 3.0).astype(x.dtype),
        )


def rows(reward, horizon=4, **options):
    env = Track(reward)
    return check.gradcheck(lambda: env, "track", "-", horizon, 3, say=lambda _: None, **options)


def test_norms_errors_and_cosines_of_a_linear_task():
    found = rows(lambda x, t: x, horizon=6)
    assert [row.horizon for row in found] == [1, 2, 4, 6]
    for row in found:
        # The action at s moves every later state: the gradient is (H, H-1, ..., 1).
        expected = np.linalg.norm(np.arange(1, row.horizon + 1))
        assert row.grad_norm_median == pytest.approx(expected, rel=1e-6)
        assert row.grad_norm_max == pytest.approx(expected, rel=1e-6)
        assert row.nonfinite == 0
        assert row.fd_relative_error < 1e-9
        assert row.smoothed_cosine == pytest.approx(1.0)
        assert row.forward_steps_per_second > 0 and row.gradient_steps_per_second > 0
        assert row.compile_seconds > 0


def test_a_wrong_gradient_is_seen():
    @jax.custom_vjp
    def twice(x):
        return x

    twice.defvjp(lambda x: (x, None), lambda _, bar: (2.0 * bar,))
    for row in rows(lambda x, t: twice(x)):
        assert row.fd_relative_error == pytest.approx(0.5, rel=1e-6)


def test_a_right_gradient_that_no_step_can_follow_is_seen():
    row = rows(lambda x, t: jnp.sin(3e3 * x), horizon=8)[-1]
    assert row.fd_relative_error < 1e-4
    assert abs(row.smoothed_cosine) < 0.8


def test_broken_gradients_are_counted_where_they_begin_and_not_before():
    def reward(x, t):
        return x + jnp.sqrt(jnp.maximum(2 - t, 0) * (1.0 + x**2))  # sqrt'(0) from t = 2 on

    found = rows(reward)
    assert [row.nonfinite for row in found] == [0, 0, 3]
    assert found[-1].fd_relative_error is None and found[-1].smoothed_cosine is None
    text = json.dumps(check.to_json(found), allow_nan=False)
    assert json.loads(text)[-1]["grad_norm_median"] is None


def test_a_return_that_breaks_beside_the_actions_is_no_agreement():
    actions = jnp.zeros((2, 3, 1))

    def returns(moved, states, count):
        return jnp.where(jnp.any(moved != 0.0, axis=(0, 2)), jnp.nan, 0.0)

    programs = check.Programs(returns, lambda actions, states, count: jnp.ones_like(actions))
    states = jax.vmap(Track().reset)(jax.random.split(jax.random.key(0), 3))
    assert check.compare(programs, actions, states, 2, seed=0) == (np.inf, None)


def test_a_reward_that_ignores_the_actions_has_no_direction(tmp_path):
    found = rows(lambda x, t: jnp.ones(()))
    row = found[-1]
    assert row.grad_norm_max == 0 and row.smoothed_cosine is None and row.fd_relative_error == 0
    gradient_quality(check.to_json(found), tmp_path / "zeros.png")
    assert (tmp_path / "zeros.png").exists()


def test_a_policy_is_followed_to_the_last_state_before_a_fall():
    policy = Policy(
        reset=lambda observation, key: (),
        sample=lambda carry, observation, key: (carry, jnp.full(1, 0.25)),
        mode=lambda carry, observation: (carry, jnp.full(1, 0.25)),
    )
    states, actions = check.starting_points(Track(), 5, 2, jax.random.key(0), policy)
    assert jnp.allclose(states.obs, 3.0)  # done beyond 3
    assert actions.shape == (5, 2, 1) and jnp.all(actions == 0.25)


@pytest.mark.parametrize(("horizon", "num_envs"), [(0, 2), (2, 0)])
def test_sizes_below_one_are_refused(horizon, num_envs):
    with pytest.raises(ValueError, match="must be at least 1"):
        check.gradcheck(Track, "track", "-", horizon, num_envs)


def test_states_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="3 of 3 starting states aren't finite"):
        check.gradcheck(lambda: Track(start=jnp.nan), "track", "-", 2, 3, say=lambda _: None)


def test_the_verb_writes_rows_a_table_and_a_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--env", "pendulum", "--horizon", "2", "--num-envs", "4", "--json", "rows.json"]
    assert main(["gradcheck", *flags]) == 0
    found = json.loads((tmp_path / "rows.json").read_text())
    assert [row["horizon"] for row in found] == [1, 2]
    assert set(found[0]) == {
        *("env", "backend", "horizon", "grad_norm_median", "grad_norm_p90", "grad_norm_max"),
        *("nonfinite", "fd_relative_error", "smoothed_cosine", "forward_steps_per_second"),
        *("gradient_steps_per_second", "compile_seconds"),
    }
    assert found[1]["fd_relative_error"] < 1e-5
    assert (tmp_path / "gradcheck-pendulum-analytic.png").stat().st_size > 1000
    assert "pendulum" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--env", "ant", "--backend", "bullet"], "no backend 'bullet'"),
        (["--env", "antt"], "unknown task 'antt'"),
        (["--env", "pendulum", "--horizon", "0"], "horizon (0)"),
        (["--run", "x", "--env", "ant"], "leave --env"),
        (["--json", "no/such/folder/x.json"], "no folder"),
    ],
)
def test_what_is_wrong_is_one_line(flags, says, capsys):
    assert main(["gradcheck", *flags]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_rates_are_medians_of_calls_in_turn(monkeypatch):
    """So that a machine that slows down, here fivefold after the fourth call, does so for both."""
    clock, order = [0.0], []
    monkeypatch.setattr(check.time, "perf_counter", lambda: clock[0])

    def call(name, seconds):
        def run(scale):
            order.append(name)
            clock[0] += seconds * scale * (5.0 if len(order) > 4 else 1.0)

        return run

    fast, slow = check.rates((call("fast", 1e-3), call("slow", 4e-3)), (2.0,))
    assert order[:6] == ["fast", "slow"] * 3
    assert fast == pytest.approx(100.0) and slow == pytest.approx(25.0)
