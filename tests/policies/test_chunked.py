from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpgjax.policies import PolicyHead, chunked, flow, gaussian, velocity_field
from rpgjax.policies.head import no_carry, squash
from rpgjax.policies.latent import latent, standard_normal

OBSERVATION = jnp.zeros(1)


def counting_head(size: int, log: list[Any]) -> PolicyHead:
    """Its decisions are numbered by the observation; `log` receives one entry for each evaluation."""

    def sample(params, carry, observation, key):
        jax.debug.callback(lambda: log.append(1))
        return carry, squash(observation[0] + jnp.arange(size) / 100.0)

    def mode(params, carry, observation):
        return carry, jnp.tanh(observation[0] + jnp.arange(size) / 100.0)

    return PolicyHead(lambda key: (), no_carry, sample, mode)


def play(head, steps, batch=1, restart_at=None):
    """Unrolls a head on observations 1, 2, 3, ...; environment 0 restarts before step `restart_at`."""
    params = head.init(jax.random.key(0))
    reset = jax.vmap(lambda k: head.reset(params, OBSERVATION, k))
    carry = reset(jax.random.split(jax.random.key(1), batch))

    def step(carry, inputs):
        t, key = inputs
        if restart_at is not None:
            new = reset(jax.random.split(key, batch))
            which = (jnp.arange(batch) == 0) & (t == restart_at)
            pick = lambda n, o: jnp.where(which.reshape(-1, *[1] * (o.ndim - 1)), n, o)  # noqa: E731
            carry = jax.tree.map(pick, new, carry)
        observation = jnp.full((batch, 1), t + 1.0)
        keys = jax.random.split(key, batch)
        return jax.vmap(head.sample, (None, 0, 0, 0))(params, carry, observation, keys)

    inputs = (jnp.arange(steps), jax.random.split(jax.random.key(2), steps))
    with jax.numpy_rank_promotion("allow"):
        return jax.lax.scan(step, carry, inputs)[1]


def test_a_chunk_is_decided_once_and_read_off_in_order():
    log: list[Any] = []
    drawn = play(chunked(counting_head(6, log), 3), 7)
    jax.effects_barrier()
    # Decisions at observations 1, 4 and 7; two action dimensions each step.
    expected = [1.0, 1.02, 1.04, 4.0, 4.02, 4.04, 7.0]
    np.testing.assert_allclose(drawn.pre_squash[:, 0, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(drawn.pre_squash[:, 0, 1], np.add(expected, 0.01), rtol=1e-5)
    np.testing.assert_allclose(drawn.action, jnp.tanh(drawn.pre_squash), rtol=1e-5)
    np.testing.assert_array_equal(drawn.is_decision[:, 0], [1, 0, 0, 1, 0, 0, 1])
    np.testing.assert_allclose(drawn.decision[4, 0], 4.0 + np.arange(6) / 100.0, rtol=1e-5)
    assert drawn.log_prob is None
    assert len(log) == 3, "the inner head must be evaluated once for a chunk"


def test_batched_the_inner_head_runs_only_when_some_environment_is_due():
    log: list[Any] = []
    drawn = play(chunked(counting_head(4, log), 4), 12, batch=3, restart_at=6)
    jax.effects_barrier()
    np.testing.assert_array_equal(
        drawn.is_decision[:, 0], [1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0], "restarts with the episode"
    )
    np.testing.assert_array_equal(drawn.is_decision[:, 1], [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
    # The others keep their plan where environment 0 decides.
    np.testing.assert_allclose(drawn.pre_squash[6, 1, 0], 5.02, rtol=1e-5)
    assert len(log) == 5, "one batched evaluation at steps 0, 4, 6, 8 and 10"


@pytest.mark.parametrize("kind", ["gaussian", "flow"])
def test_chunk_length_one_acts_exactly_as_the_head(kind):
    head = {
        "gaussian": gaussian(1, 2, (8,)),
        "flow": flow(velocity_field(1, 2, (8,)), 2),
    }[kind]
    plain, wrapped = play(head, 5, batch=2), play(chunked(head, 1), 5, batch=2)
    jax.tree.map(np.testing.assert_array_equal, plain, wrapped)


def test_the_gradient_reaches_the_head_through_every_action_of_a_chunk():
    head = chunked(flow(velocity_field(1, 6, (8,)), 6), 3)
    params = head.init(jax.random.key(0))

    def action_at(params, t):
        carry = head.reset(params, OBSERVATION, jax.random.key(1))
        for _ in range(t + 1):
            carry, drawn = head.sample(params, carry, jnp.ones(1), jax.random.key(2))
        return drawn.action[1]

    for t in range(3):
        gradient = jax.grad(action_at)(params, t)
        bias = gradient["params"]["Dense_1"]["bias"]
        assert np.flatnonzero(np.asarray(bias)).tolist() != []
        assert abs(bias[2 * t + 1]) == pytest.approx(float(jnp.abs(bias).max()))


def test_mode_is_open_loop_too():
    head = chunked(counting_head(4, []), 2)
    carry = head.reset((), OBSERVATION, jax.random.key(0))
    actions = []
    for t in range(4):
        carry, action = head.mode((), carry, jnp.array([t + 1.0]))
        actions.append(float(action[0]))
    np.testing.assert_allclose(actions, np.tanh([1.0, 1.02, 3.0, 3.02]), rtol=1e-5)


def test_impossible_lengths_are_refused():
    head = counting_head(5, [])
    with pytest.raises(ValueError, match="at least 1"):
        chunked(head, 0)
    with pytest.raises(ValueError, match="can't be cut"):
        chunked(head, 2).reset((), OBSERVATION, jax.random.key(0))


def test_a_latent_goes_around_chunks():
    prior = standard_normal(2)
    inside = chunked(latent(gaussian(1 + 2, 4, (8,)), prior), 2)
    with pytest.raises(ValueError, match="a latent goes around chunks"):
        play(inside, 3)
    play(latent(chunked(gaussian(1 + 2, 4, (8,)), 2), prior), 3)
