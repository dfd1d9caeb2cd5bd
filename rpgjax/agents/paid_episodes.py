"""Which episodes of replay were paid, so that what pays seldom is not drawn as seldom.

Where one episode in thousands is paid, a batch drawn evenly from all steps holds nothing of it. A list of
the first paid episodes lets a share of each batch come from these, as in learning from demonstrations
(RLPD, Ball et al., ICML 2023), with the agent's own successes for demonstrations. When the list is full,
what pays is seldom no more, and nothing is drawn from it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rpgjax.types import Array, Key

KEPT = 1000  # episodes


class PaidEpisodes(NamedTuple):
    """The first paid episodes, in steps of their environment since training began."""

    env: Array  # (KEPT,) int32
    end: Array  # (KEPT,) int32, when the last step was
    length: Array  # (KEPT,) int32, in steps
    count: Array  # () int32, so far, those that are not listed too
    time: Array  # () int32, steps of each environment so far
    rewards: Array  # (env,) of the episode that goes on, summed
    steps: Array  # (env,) int32, of the episode that goes on


def no_paid_episodes(num_envs: int) -> PaidEpisodes:
    """Before the first step."""

    def none(*shape: int) -> Array:  # one each: donated buffers must not be shared
        return jnp.zeros(shape, jnp.int32)

    rewards = jnp.zeros(num_envs)
    return PaidEpisodes(none(KEPT), none(KEPT), none(KEPT), none(), none(), rewards, none(num_envs))


def with_window(paid: PaidEpisodes, reward: Array, ended: Array, least: int) -> PaidEpisodes:
    """After a window of rewards and ends (T, env): an episode is paid if its rewards sum to more than 0.

    Episodes of fewer than `least` steps are left out: no segment fits into them.
    """

    def step(now: tuple[Array, Array], seen: tuple[Array, Array]):
        reward, ended = seen
        rewards, steps = now[0] + reward, now[1] + 1
        kept = ended & (rewards > 0) & (steps >= least)
        return (jnp.where(ended, 0.0, rewards), jnp.where(ended, 0, steps)), (kept, steps)

    now, (kept, steps) = jax.lax.scan(step, (paid.rewards, paid.steps), (reward, ended))
    times = paid.time + jnp.arange(reward.shape[0], dtype=jnp.int32)
    end = jnp.broadcast_to(times[:, None], reward.shape)
    env = jnp.broadcast_to(jnp.arange(reward.shape[1], dtype=jnp.int32), reward.shape)
    flat = kept.reshape(-1)
    place = paid.count + jnp.cumsum(flat, dtype=jnp.int32) - 1
    place = jnp.where(flat, place, KEPT)  # which is nowhere, as is all beyond

    def put(held: Array, new: Array) -> Array:
        return held.at[place].set(new.reshape(-1), mode="drop")

    return PaidEpisodes(
        env=put(paid.env, env),
        end=put(paid.end, end),
        length=put(paid.length, steps),
        count=paid.count + jnp.sum(flat, dtype=jnp.int32),
        time=paid.time + reward.shape[0],
        rewards=now[0],
        steps=now[1],
    )


def paid_segments(
    paid: PaidEpisodes, key: Key, count: int, horizon: int, held: int
) -> tuple[Array, Array, Array]:
    """Segments of `horizon` steps within paid episodes: environments (count,), first steps, which exist.

    Every listed episode is as likely as the others, and so is every place in it. A segment does not
    exist where nothing was paid yet, where the list is full, or where replay, which holds the last
    `held` steps of every environment, has forgotten its beginning.
    """
    which_key, where_key = jax.random.split(key)
    which = jax.random.randint(which_key, (count,), 0, jnp.clip(paid.count, 1, KEPT))
    length, end = paid.length[which], paid.end[which]
    offset = jax.random.randint(where_key, (count,), 0, jnp.maximum(length - horizon, 0) + 1)
    begin = end - length + 1
    seldom = (paid.count > 0) & (paid.count < KEPT)
    first = begin + offset
    return paid.env[which], first, seldom & (first >= paid.time - held)
