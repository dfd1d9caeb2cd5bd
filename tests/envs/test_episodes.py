"""Episodes: what ends, what is seen, what is reset, and where the gradient goes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.envs.episodes import EpisodeState, covering, episodes, observation
from rpgjax.envs.object_centric import ObjectCentric
from rpgjax.envs.quiet import quiet_brax
from rpgjax.envs.registry import make

with quiet_brax():
    from brax.envs import Env, State

LENGTH = 5


class Walk(Env):
    """x' = decay x + a, reward -x'^2; terminates beyond x = 2. Every oddity is a switch."""

    observation_size = 1
    action_size = 1
    backend = "toy"

    def __init__(self, done=bool, spread=0.1, broken_above=jnp.inf, info=None, step_info=None):
        self.done = done
        self.spread = spread
        self.broken_above = broken_above
        self.info = info or {}
        self.step_info = step_info or (lambda info: info)

    def reset(self, rng):
        x = self.spread * jax.random.normal(rng, (1,))
        metrics = {"distance": 0.0}
        info = {"key": rng, **self.info}
        return State(x, x, jnp.zeros(()), jnp.asarray(False, self.done), metrics, info)

    def step(self, state, action):
        x = 0.5 * state.pipeline_state + action
        # Finite forward where the action is small; backward the root is infinite at the edge.
        x = x + 0.0 * jnp.sum(jnp.sqrt(self.broken_above - action))
        state.metrics.update(distance=jnp.abs(x[0]))  # in place, as Brax's own tasks do
        info = dict(state.info, key=jax.random.split(state.info["key"])[0])
        return state.replace(
            pipeline_state=x,
            obs=x,
            reward=-jnp.sum(x**2),
            done=(x[0] > 2.0).astype(self.done),
            info=self.step_info(info),
        )


def start(env, key=0, **settings):
    task = episodes(env, LENGTH, **{"bank_size": 16, **settings})
    bank = task.sample_bank(jax.random.key(key))
    return task, bank, task.reset(bank, jax.random.key(key + 1))


def unroll(task, bank, state, actions, key=2):
    """Actions (T, 1) to the last state and steps (T, ...)."""

    def step(state, inputs):
        return task.step(bank, state, *inputs)

    keys = jax.random.split(jax.random.key(key), len(actions))
    return jax.lax.scan(step, state, (actions, keys))


FINITE = partial(Walk, broken_above=100.0)


def test_final_observation_is_the_one_before_the_reset():
    task, bank, state = start(FINITE())
    state, step = task.step(bank, state, jnp.array([5.0]), jax.random.key(3))
    assert step.terminated and not step.truncated and step.finite
    assert step.final_observation[0] > 4.0
    assert abs(step.observation[0]) < 1.0
    np.testing.assert_array_equal(step.observation, observation(state))
    np.testing.assert_allclose(step.reward, -(step.final_observation[0] ** 2), rtol=1e-6)
    assert state.step_count == 0


def test_an_episode_that_goes_on_keeps_its_state():
    task, bank, state = start(FINITE())
    before = observation(state)
    state, step = task.step(bank, state, jnp.array([0.25]), jax.random.key(3))
    np.testing.assert_allclose(observation(state), 0.5 * before + 0.25, rtol=1e-6)
    np.testing.assert_array_equal(step.final_observation, step.observation)
    assert not step.terminated and not step.truncated
    assert state.step_count == 1
    np.testing.assert_allclose(state.env_state.metrics["distance"], abs(observation(state)[0]))


def test_resets_are_random_entries_of_the_bank():
    task, bank, state = start(FINITE())
    keys = jax.random.split(jax.random.key(4), 200)
    first = jax.vmap(task.reset, (None, 0))(bank, keys)
    step = jax.vmap(lambda key: task.step(bank, state, jnp.array([5.0]), key)[1])(keys)
    entries = np.unique(np.asarray(bank.obs))
    assert entries.size == 16
    for drawn in (observation(first), step.observation):
        assert set(np.unique(np.asarray(drawn))) == set(entries)


def test_a_typed_key_in_the_state_follows_its_bank_entry():
    task, bank, state = start(FINITE())
    state, step = task.step(bank, state, jnp.array([5.0]), jax.random.key(3))
    entry = np.flatnonzero(np.asarray(bank.obs)[:, 0] == np.asarray(step.observation)[0])[0]
    assert state.env_state.info["key"] == bank.info["key"][entry]


def test_refresh_replaces_a_few_entries():
    task, bank, _ = start(FINITE(), refresh=3)
    fresh = task.refresh_bank(bank, jax.random.key(5))
    changed = np.flatnonzero(np.any(np.asarray(fresh.obs != bank.obs), axis=1))
    assert changed.size == 3
    keys = jax.random.key_data(fresh.info["key"]) != jax.random.key_data(bank.info["key"])
    np.testing.assert_array_equal(np.flatnonzero(np.any(np.asarray(keys), axis=1)), changed)
    other = task.refresh_bank(bank, jax.random.key(6))
    assert np.any(np.asarray(fresh.obs != other.obs))
    everything = start(FINITE(), refresh=99)[0].refresh_bank(bank, jax.random.key(5))
    assert np.all(np.asarray(everything.obs != bank.obs))
    untouched = start(FINITE(), refresh=0)[0].refresh_bank(bank, jax.random.key(5))
    np.testing.assert_array_equal(untouched.obs, bank.obs)


def test_of_places_those_stay_that_have_no_newer_one_near():
    #                     old ->                                  new
    places = jnp.array([[0.0, 0.0], [5.0, 0.0], [0.1, 0.0], [9.0, 3.0], [5.0, 0.2], [0.0, 0.15]])
    # To the nearest newer: 0.1, 0.2, 0.18, 4.9, 5.0, nobody.
    for count, stay in ((5, [1, 2, 3, 4, 5]), (4, [1, 3, 4, 5]), (3, [3, 4, 5]), (2, [4, 5])):
        np.testing.assert_array_equal(covering(places, count), stay)


def test_an_archive_covers_where_episodes_have_been_and_leaves_the_fresh_states_alone():
    place = ObjectCentric(FINITE(), lambda state: state.pipeline_state, frequencies=0)
    task, bank, _ = start(place, archive_size=6, refresh=99)
    fresh = task.refresh_bank(bank, jax.random.key(5))
    changed = np.any(np.asarray(fresh.obs != bank.obs), axis=1)
    np.testing.assert_array_equal(changed, np.arange(16) >= 6)
    states = jax.vmap(task.reset, (None, 0))(bank, jax.random.split(jax.random.key(3), 3))
    step = jax.vmap(lambda s, a: task.step(bank, s, a, jax.random.key(4))[0])
    been = [np.asarray(bank.pipeline_state[:6, 0])]
    for push in (0.8, 0.8, 0.8, 0.9, 0.9, 0.9):  # near 1.7 in the end, where all of them crowd
        states = step(states, push + jnp.array([0.0, 0.01, 0.02])[:, None])
        kept = task.archive(bank, states)
        np.testing.assert_array_equal(kept.obs[6:], bank.obs[6:])
        bank = kept
        been.append(np.asarray(states.env_state.pipeline_state[:, 0]))
    place = np.asarray(bank.pipeline_state[:6, 0])
    assert np.all(np.isin(place, np.concatenate(been)))
    assert place[-1] == been[-1][-1], "the newest is there"
    assert np.min(place) < 0.4 and np.sum(place > 1.5) <= 3, "where all come few are kept"
    np.testing.assert_allclose(bank.obs[:, 0], 0.01 * bank.pipeline_state[:, 0], rtol=1e-5)


def test_an_archive_wants_objects_and_room():
    with pytest.raises(ValueError, match="archive_size wants a task with objects"):
        episodes(FINITE(), LENGTH, 16, archive_size=8)
    with pytest.raises(ValueError, match=r"archive_size \(16\) must not be negative and leave one"):
        episodes(FINITE(), LENGTH, 16, archive_size=16)


def test_the_time_limit_truncates_at_episode_length_and_is_no_termination():
    task, bank, state = start(FINITE())
    state, steps = unroll(task, bank, state, jnp.zeros((2 * LENGTH + 1, 1)))
    expected = [(t + 1) % LENGTH == 0 for t in range(2 * LENGTH + 1)]
    np.testing.assert_array_equal(steps.truncated, expected)
    assert not np.any(steps.terminated)
    assert state.step_count == 1


def test_termination_wins_over_the_time_limit():
    task, bank, state = start(FINITE())
    actions = jnp.zeros((LENGTH, 1)).at[-1].set(5.0)
    _, steps = unroll(task, bank, state, actions)
    assert steps.terminated[-1] and not steps.truncated[-1]
    assert not np.any(steps.terminated[:-1])


@pytest.mark.parametrize("flag", [True, 1, 1.0])
def test_a_tasks_own_truncation_is_no_termination(flag):
    kind = jnp.asarray(flag).dtype
    env = FINITE(
        info={"truncation": jnp.zeros((), kind)},
        step_info=lambda info: dict(info, truncation=jnp.asarray(flag)),
    )
    task, bank, state = start(env)
    state, step = task.step(bank, state, jnp.array([5.0]), jax.random.key(3))
    assert step.truncated and not step.terminated
    assert state.step_count == 0


def test_desynchronise_spreads_phases_over_the_episode():
    task, _, state = start(FINITE())
    keys = jax.random.split(jax.random.key(7), 200)
    spread = jax.vmap(task.desynchronise, (None, 0))(state, keys)
    assert spread.step_count.dtype == jnp.int32
    assert set(np.asarray(spread.step_count)) == set(range(LENGTH))


@pytest.mark.parametrize("kind", [jnp.bool_, jnp.int32, jnp.float32])
def test_any_dtype_of_done_and_drifting_infos_go_through_a_scan(kind):
    class Drifting(Walk):
        """Infos and done change dtype in `step`; the reset's reward is a Python int."""

        def reset(self, rng):
            return super().reset(rng).replace(reward=0, obs=jnp.zeros(1, jnp.int32))

        def step(self, state, action):
            state = super().step(state, action)
            return state.replace(done=(state.obs[0] > 2.0).astype(jnp.float32))

    info = {"count": jnp.zeros((), jnp.int32), "nested": {"flag": jnp.zeros((2,), bool)}}
    env = Drifting(
        kind,
        broken_above=100.0,
        info=info,
        step_info=lambda i: dict(i, count=i["count"] + 1.0, nested={"flag": jnp.ones(2)}),
    )
    task, bank, state = start(env)
    state, steps = unroll(task, bank, state, jnp.array([[0.0], [5.0], [0.25]]))
    np.testing.assert_array_equal(steps.terminated, [False, True, False])
    assert state.env_state.info["count"] == 1
    assert state.env_state.info["count"].dtype == jnp.int32
    assert state.env_state.info["nested"]["flag"].dtype == bool
    assert jnp.issubdtype(steps.reward.dtype, jnp.floating) and steps.reward[1] < -4.0
    assert steps.final_observation[1, 0] > 4.0


def test_a_step_does_not_change_the_state_it_is_given():
    task, bank, state = start(FINITE())
    task.step(bank, state, jnp.array([1.0]), jax.random.key(3))
    assert state.env_state.metrics["distance"] == 0.0


@pytest.mark.parametrize(
    ("step_info", "message"),
    [
        (lambda info: dict(info, extra=jnp.zeros(())), "structure"),
        (lambda info: dict(info, count=jnp.zeros(3)), "count"),
    ],
)
def test_a_task_that_changes_its_structure_or_shapes_is_told(step_info, message):
    task, bank, state = start(FINITE(info={"count": jnp.zeros(2)}, step_info=step_info))
    with pytest.raises(ValueError, match=message):
        task.step(bank, state, jnp.zeros(1), jax.random.key(3))


def test_observations_must_be_one_vector():
    class Pixels(Walk):
        def reset(self, rng):
            return super().reset(rng).replace(obs=jnp.zeros((2, 2)))

    with pytest.raises(ValueError, match="one vector"):
        episodes(Pixels(), LENGTH)


@pytest.mark.parametrize("sizes", [(0, 4, 1), (5, 0, 0), (5, 4, -1)])
def test_sizes_are_checked(sizes):
    with pytest.raises(ValueError, match="episodes want"):
        episodes(Walk(), *sizes)


def total_reward(task, bank, state, actions):
    return jnp.sum(unroll(task, bank, state, actions)[1].reward)


def test_the_gradient_flows_through_steps():
    task, bank, state = start(FINITE())
    actions = jnp.array([[0.3], [-0.2], [0.1]])
    gradient = jax.grad(total_reward, 3)(task, bank, state, actions)

    def by_hand(actions):
        x, total = observation(state), 0.0
        for action in actions:
            x = 0.5 * x + action
            total -= jnp.sum(x**2)
        return total

    np.testing.assert_allclose(gradient, jax.grad(by_hand)(actions), rtol=1e-5)


def test_the_gradient_stops_at_a_reset_exactly():
    task, bank, state = start(FINITE())
    actions = jnp.array([[0.3], [5.0], [0.1], [0.2]])

    def rewards(actions, state=state):
        return unroll(task, bank, state, actions)[1].reward

    jacobian = jax.jacrev(rewards)(actions)[:, :, 0]  # (reward, action)
    np.testing.assert_array_equal(jacobian[2:, :2], np.zeros((2, 2)))
    assert jacobian[1, 0] != 0 and jacobian[1, 1] != 0  # the step that ends still pays
    assert jacobian[3, 2] != 0

    def later(x):
        env_state = state.env_state.replace(pipeline_state=x, obs=x)
        return rewards(actions, EpisodeState(env_state, state.step_count))

    into_state = jax.jacrev(later)(observation(state))[:, 0]
    assert into_state[0] != 0 and into_state[1] != 0
    np.testing.assert_array_equal(into_state[2:], np.zeros(2))


def test_the_bank_is_a_constant():
    task, bank, _ = start(FINITE())

    def first(obs):
        return jnp.sum(observation(task.reset(bank.replace(obs=obs), jax.random.key(0))))

    np.testing.assert_array_equal(jax.grad(first)(bank.obs), np.zeros_like(bank.obs))


def test_a_broken_step_is_reported_and_replaced():
    task, bank, state = start(Walk(broken_above=0.5))
    before = observation(state)
    reached, step = task.step(bank, state, jnp.array([0.6]), jax.random.key(3))
    assert not step.finite and step.truncated and not step.terminated
    assert step.reward == 0
    np.testing.assert_array_equal(step.final_observation, before)
    assert reached.step_count == 0
    assert np.isin(step.observation, bank.obs).all()
    assert all(
        np.isfinite(leaf).all()
        for leaf in jax.tree.leaves(reached)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    )


def test_hints_of_a_broken_step_are_numbers():
    broken = {"survival": jnp.float32(jnp.nan), "pace": jnp.float32(jnp.nan)}
    plain = {"survival": jnp.float32(0.5), "pace": jnp.float32(2.0)}
    task, bank, state = start(
        Walk(broken_above=0.5, info=plain, step_info=lambda info: info | broken)
    )
    _, step = task.step(bank, state, jnp.array([0.6]), jax.random.key(3))
    assert not step.finite and step.survival == 1.0 and step.pace == 0.0


def test_a_broken_environment_leaves_the_others_alone():
    task, bank, state = start(Walk(broken_above=0.5))
    keys = jax.random.split(jax.random.key(3), 2)

    def rewards(actions):
        step = jax.vmap(lambda a, k: task.step(bank, state, a, k)[1])(actions, keys)
        return jnp.sum(step.reward), step.finite

    gradient, finite = jax.grad(rewards, has_aux=True)(jnp.array([[0.6], [0.25]]))
    np.testing.assert_array_equal(finite, [False, True])
    expected = -2.0 * (0.5 * observation(state)[0] + 0.25)
    np.testing.assert_allclose(gradient[1, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_broken_action_breaks_neither_the_state_nor_the_gradient(bad):
    task, bank, state = start(FINITE())
    keys = jax.random.split(jax.random.key(3), 2)

    def rewards(actions):
        after, first = task.step(bank, state, actions[0], keys[0])
        _, second = task.step(bank, after, actions[1], keys[1])
        return first.reward + second.reward, first.finite

    gradient, finite = jax.grad(rewards, has_aux=True)(jnp.array([[bad], [0.25]]))
    assert not finite
    assert gradient[0, 0] == 0
    assert np.isfinite(gradient).all() and gradient[1, 0] != 0


def test_numbers_that_were_infinite_all_along_are_no_breakdown():
    class Sentinel(Walk):
        """Keeps an infinity in its state."""

        def reset(self, rng):
            state = super().reset(rng)
            return state.replace(pipeline_state=jnp.append(state.obs, jnp.inf))

        def step(self, state, action):
            stepped = super().step(state.replace(pipeline_state=state.obs), action)
            return stepped.replace(pipeline_state=jnp.append(stepped.obs, jnp.inf))

    task, bank, state = start(Sentinel(broken_above=0.5))
    good = task.step(bank, state, jnp.array([0.2]), jax.random.key(3))[1]
    bad = task.step(bank, state, jnp.array([0.6]), jax.random.key(3))[1]
    assert good.finite and not bad.finite


def test_seeds_reproduce_and_differ():
    def observations(key):
        task, bank, state = start(FINITE(), key)
        return unroll(task, bank, state, jnp.full((4 * LENGTH, 1), 0.5), key)[1].observation

    np.testing.assert_array_equal(observations(0), observations(0))
    assert np.any(np.asarray(observations(0) != observations(10)))


def test_physics_multiplies_matrices_in_full_precision():
    """Accelerators drop bits unless they are told not to; no number on a CPU shows it."""
    world = episodes(make("lqr"), LENGTH, bank_size=2)

    def gradient(key, action):
        bank = world.sample_bank(key)
        state = world.reset(bank, key)

        def reached(action):
            return world.step(bank, state, action, key)[1].final_observation.sum()

        return jax.grad(reached)(action)

    program = str(jax.make_jaxpr(gradient)(jax.random.key(0), jnp.zeros(world.action_size)))
    products = program.split("dot_general[")[1:]
    assert len(products) > 1
    assert [p for p in products if "Precision.HIGHEST" not in p.split("preferred")[0]] == []
