import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs import State
from toy import TARGET, Line, toy_agent

import rpgjax
from rpgjax.envs import registry
from rpgjax.envs.analytic.two_routes import TwoRoutes
from rpgjax.training import launch
from rpgjax.training.evaluate import evaluation_key, evaluator
from rpgjax.training.replay import record


def states(agent, seeds=1):
    return jax.vmap(agent.init)(jax.random.split(jax.random.key(7), seeds))


def with_mean(state, value):
    mean = jnp.full_like(state.params["mean"], value)
    bias = jnp.zeros_like(state.params["bias"])
    return state._replace(params={"mean": mean, "bias": bias})


def test_counts_each_episode_up_to_its_first_end():
    # Every step costs exactly 1; the task pays 1000 a step after the end, which must not count.
    agent = toy_agent()
    state = with_mean(states(agent), TARGET + 1.0)
    key = evaluation_key(0, 0)
    metrics = jax.jit(evaluator(agent, Line(6), 64, 100))(state, key[None])

    reset_key = jax.random.split(key, 3)[0]
    lengths = jax.vmap(Line(6).reset)(jax.random.split(reset_key, 64)).obs[:, 1]
    assert len(np.unique(lengths)) == 6
    np.testing.assert_allclose(metrics["eval/return_mean"], -lengths.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["eval/return_std"], lengths.std(), rtol=1e-4)
    np.testing.assert_allclose(metrics["eval/episode_length_mean"], lengths.mean(), rtol=1e-6)


class Judged(Line):
    """A line whose task calls it a success to stand at the second step."""

    def judged(self, state):
        return state.replace(metrics={"success": (state.obs[0] == 2.0).astype(jnp.float32)})

    def reset(self, rng):
        return self.judged(super().reset(rng))

    def step(self, state, action):
        return self.judged(super().step(state, action))


class Drifting(Line):
    """Its steps have other dtypes than its resets, and numbers that are no arrays."""

    def reset(self, rng):
        return super().reset(rng).replace(done=False, metrics={"count": 0})

    def step(self, state, action):
        after = super().step(state, action)
        return after.replace(done=after.done.astype(jnp.float32), metrics={"count": 1.0})


def test_tasks_whose_dtypes_drift_are_played_as_well():
    agent, key = toy_agent(), evaluation_key(0, 0)
    plain, drifting = (
        jax.jit(evaluator(agent, task, 8, 10))(states(agent), key[None])
        for task in (Line(6), Drifting(6))
    )
    np.testing.assert_array_equal(plain["eval/return_mean"], drifting["eval/return_mean"])
    one = agent.init(jax.random.key(0))
    np.testing.assert_array_equal(
        record(agent, Line(6), one, 10).reward, record(agent, Drifting(6), one, 10).reward
    )


def test_success_is_the_tasks_own_where_the_episode_ended():
    agent, key = toy_agent(), evaluation_key(0, 0)
    plain = jax.jit(evaluator(agent, Line(6), 64, 100))(states(agent), key[None])
    assert "eval/success" not in plain
    metrics = jax.jit(evaluator(agent, Judged(6), 64, 100))(states(agent), key[None])
    lengths = jax.vmap(Line(6).reset)(jax.random.split(jax.random.split(key, 3)[0], 64)).obs[:, 1]
    # Longer ones are at the second step on their way, which does not count.
    share = float(np.mean(lengths == 2.0))
    assert 0.0 < share < 0.5
    assert float(metrics["eval/success"][0]) == pytest.approx(share)
    assert float(metrics["eval/stochastic_success"][0]) == pytest.approx(share)


def test_cuts_episodes_off_at_the_time_limit():
    agent = toy_agent()
    state = with_mean(states(agent), TARGET + 1.0)
    metrics = jax.jit(evaluator(agent, Line(1000), 32, 5))(state, evaluation_key(0, 0)[None])
    assert metrics["eval/return_mean"] >= -5
    assert metrics["eval/episode_length_mean"] <= 5
    assert metrics["eval/episode_length_mean"] > 4


def test_sampled_policy_differs_and_shares_the_resets():
    agent = toy_agent(noise=0.3)
    state = with_mean(states(agent), TARGET)
    metrics = jax.jit(evaluator(agent, Line(6), 64, 100))(state, evaluation_key(0, 0)[None])
    np.testing.assert_allclose(metrics["eval/return_mean"], 0.0, atol=1e-6)
    per_step = metrics["eval/stochastic_return_mean"] / metrics["eval/episode_length_mean"]
    np.testing.assert_allclose(per_step, -0.09, rtol=0.3)
    assert (
        metrics["eval/stochastic_episode_length_mean"] == metrics["eval/episode_length_mean"]
    ).all()


def test_stops_when_every_episode_has_ended():
    # A limit of 2^30 steps would take days.
    agent = toy_agent()
    metrics = jax.jit(evaluator(agent, Line(3), 4, 2**30))(
        states(agent), evaluation_key(0, 0)[None]
    )
    assert metrics["eval/episode_length_mean"] <= 3


def test_seeds_do_not_mix():
    agent = toy_agent()
    stacked = states(agent, 3)
    keys = jnp.stack([evaluation_key(seed, 4) for seed in range(3)])
    evaluate = jax.jit(evaluator(agent, Line(), 16, 10))
    together = evaluate(stacked, keys)
    for seed in range(3):
        one = jax.tree.map(lambda x, seed=seed: x[seed : seed + 1], stacked)
        alone = evaluate(one, keys[seed : seed + 1])
        for name, value in alone.items():
            np.testing.assert_allclose(value[0], together[name][seed], rtol=1e-5)


def test_dynamics_that_break_end_the_episode_and_are_counted():
    class Breaks(Line):
        def step(self, state: State, action: jax.Array) -> State:
            after = super().step(state, action)
            return after.replace(reward=jnp.where(after.obs[0] >= 2, jnp.nan, after.reward))

    agent = toy_agent()
    state = with_mean(states(agent), TARGET + 1.0)
    metrics = jax.jit(evaluator(agent, Breaks(6), 64, 100))(state, evaluation_key(0, 0)[None])
    assert metrics["eval/return_mean"] == pytest.approx(-1.0)
    assert 0.5 < metrics["eval/nonfinite_fraction"] < 1.0


def test_keys_depend_on_seed_and_update_only():
    data = [jax.random.key_data(evaluation_key(s, u)).tolist() for s in (0, 1) for u in (0, 20)]
    assert len({tuple(words) for words in data}) == 4
    again = jax.random.key_data(evaluation_key(1, 20)).tolist()
    assert again == data[-1]


def test_a_policy_is_evaluated_on_other_physics(monkeypatch):
    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))
    heights = {"hill": 3.0, "plain": 0.0}
    registry.register("land", lambda backend: TwoRoutes(height=heights[backend]), tuple(heights))
    run = rpgjax.train(
        "apg", env="land", updates=1, num_envs=2, horizon=2, episode_length=5, progress=False
    )
    hill, plain = (
        launch.evaluate(launch.on_backend(run, name), episodes=4)["eval/return_mean"]
        for name in heights
    )
    assert hill == launch.evaluate(run, episodes=4)["eval/return_mean"]
    assert plain > hill + 0.01
    with pytest.raises(ValueError, match="no backend 'moon'"):
        launch.on_backend(run, "moon")
