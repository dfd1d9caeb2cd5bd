"""The list of paid episodes, and segments of them, against a slow reading of what happened."""

import jax
import jax.numpy as jnp
import numpy as np

from rpgjax.agents import paid_episodes
from rpgjax.agents.paid_episodes import no_paid_episodes, paid_segments, with_window

ENVS, STEPS, WINDOWS, LEAST = 3, 4, 12, 3


def played(seed=0):
    """Rewards and ends (windows, steps, env), most of nothing."""
    rng = np.random.default_rng(seed)
    shape = (WINDOWS, STEPS, ENVS)
    return np.float32(rng.random(shape) < 0.08), rng.random(shape) < 0.2


def listed(rewards, ends):
    paid = no_paid_episodes(ENVS)
    for reward, ended in zip(rewards, ends, strict=True):
        paid = jax.jit(with_window, static_argnums=3)(paid, reward, ended, LEAST)
    return paid


def episodes_of(rewards, ends):
    """(environment, last step, length) of paid episodes of three steps or more, by hand."""
    found = []
    for env in range(ENVS):
        reward, ended = (x.reshape(-1, ENVS)[:, env] for x in (rewards, ends))
        begin = 0
        for end in np.flatnonzero(ended):
            length = end - begin + 1
            if reward[begin : end + 1].sum() > 0 and length >= LEAST:
                found.append((env, int(end), int(length)))
            begin = end + 1
    return found


def test_lists_the_episodes_that_were_paid_across_windows():
    rewards, ends = played()
    paid, expected = listed(rewards, ends), episodes_of(rewards, ends)
    assert 4 <= len(expected) < ends.sum(), "some, and not all"
    assert int(paid.count) == len(expected) and int(paid.time) == WINDOWS * STEPS
    got = np.stack([paid.env, paid.end, paid.length], axis=1)[: len(expected)]
    assert sorted(map(tuple, got.tolist())) == sorted(expected)


def test_nothing_is_drawn_once_the_list_is_full(monkeypatch):
    monkeypatch.setattr(paid_episodes, "KEPT", 2)
    paid, there = no_paid_episodes(1), []
    for _ in range(3):  # one episode of three steps in each window
        paid = with_window(paid, jnp.ones((3, 1)), jnp.array([[False], [False], [True]]), LEAST)
        there.append(bool(paid_segments(paid, jax.random.key(0), 1, 3, held=100)[2].all()))
    assert there == [True, False, False]
    assert int(paid.count) == 3
    assert np.asarray(paid.end).tolist() == [2, 5]


def test_segments_lie_within_paid_episodes_and_are_all_drawn():
    rewards, ends = played()
    paid = listed(rewards, ends)
    env, first, exists = paid_segments(paid, jax.random.key(1), 4000, 3, held=10**6)
    assert np.all(exists)
    drawn = set(zip(np.asarray(env).tolist(), np.asarray(first).tolist(), strict=True))
    allowed = {
        (env, begin)
        for env, end, length in episodes_of(rewards, ends)
        for begin in range(end - length + 1, end - 3 + 2)
    }
    assert drawn == allowed


def test_nothing_exists_before_the_first_or_after_it_was_forgotten():
    *_, exists = paid_segments(no_paid_episodes(ENVS), jax.random.key(0), 5, 3, held=100)
    assert not np.any(exists)
    paid = no_paid_episodes(1)
    over = jnp.array([[False], [False], [True]])
    paid = with_window(paid, jnp.ones((3, 1)), over, LEAST)
    paid = with_window(paid, jnp.zeros((3, 1)), over, LEAST)
    for held, there in ((6, True), (5, False)):  # six steps: the first is the oldest of six
        *_, exists = paid_segments(paid, jax.random.key(0), 5, 3, held)
        assert np.all(exists == there)
    _, first, exists = paid_segments(paid, jax.random.key(0), 50, 2, held=5)
    assert np.all(exists == (np.asarray(first) == 1)), "its end is remembered"
    assert 0 < exists.sum() < 50
