"""RPG with a world model: what is replayed, imagined, valued, and what may touch what."""

import re
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from heads import linear_head

from rpgjax.agents.rpg import BROKEN, rpg
from rpgjax.agents.rpg_config import RPGConfig
from rpgjax.agents.rpg_learning import (
    bound_value,
    imagine,
    learn_model,
    learn_novelty,
    learn_policy,
    model_loss,
    value_targets,
)
from rpgjax.agents.rpg_parts import (
    Segment,
    before_the_end,
    encode,
    make_learner,
    make_parts,
)
from rpgjax.envs import analytic
from rpgjax.envs.episodes import episodes
from rpgjax.models.world_model import Imagined, ModelState, WorldModel
from rpgjax.objectives.novelty import intrinsic_reward
from rpgjax.policies import chunked, gaussian

TINY = RPGConfig(
    num_envs=3,
    steps_per_call=4,
    updates_per_call=4,
    episode_length=5,
    replay_size=120,
    warm_up=24,
    batch_size=8,
    latent_size=2,
    model_size=6,
    hidden=(8, 8),
    novelty_width=8,
    novelty_after=2,
)
TASK = analytic.double_integrator()
KEY = jax.random.key(9)


def parts_and_learner(config=TINY):
    parts = make_parts(episodes(TASK, config.episode_length), config)
    return parts, make_learner(parts, jax.random.key(0))


def segment(key=1, batch=8, horizon=3):
    keys = jax.random.split(jax.random.key(key), 6)
    shape = (horizon, batch)
    z = jnp.broadcast_to(jax.random.normal(keys[4], (1, batch, 2)), (*shape, 2))
    return Segment(
        jax.random.normal(keys[0], (*shape, 2)),
        jnp.tanh(jax.random.normal(keys[1], (*shape, 1))),
        jax.random.normal(keys[2], shape),
        jax.random.normal(keys[3], (*shape, 2)),
        jnp.zeros(shape, bool),
        jnp.zeros(shape, bool),
        z,
        jnp.ones(shape, bool),
    )


def moved(before, after):
    return max(
        float(jnp.abs(a - b).max())
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )


def test_calls_collect_first_and_learn_after_the_warm_up():
    agent = rpg(TASK, TINY)
    update = jax.jit(agent.update)
    states, rows = [jax.jit(agent.init)(jax.random.key(0))], []
    for _ in range(4):
        state, metrics = update(states[-1])
        states.append(state)
        rows.append(metrics)
    assert [int(state.updates) for state in states] == [0, 0, 4, 8, 12]
    assert [int(state.env_steps) for state in states] == [0, 12, 24, 36, 48]
    assert moved(states[0].learner, states[1].learner) == 0.0
    for part in ("model", "target", "actor", "encoder", "explorer"):
        assert moved(getattr(states[1].learner, part), getattr(states[2].learner, part)) > 0, part
    assert all(np.all(np.isfinite(value)) for row in rows for value in row.values())
    # The same again from a copy in the middle: a resumed run is the same run.
    copy = jax.tree.map(jnp.copy, states[2])
    again, _ = update(update(copy)[0])
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again.learner, states[4].learner)))


def test_replay_holds_terminal_observations_and_each_episodes_own_latent():
    agent = rpg(TASK, replace(TINY, warm_up=10**6))
    state = jax.jit(agent.init)(jax.random.key(0))
    for _ in range(5):
        state, _ = jax.jit(agent.update)(state)
    held = jax.tree.map(lambda x: np.asarray(x[:, :20]), state.replay.experience)
    ended = held.ended
    assert 3 * 3 <= ended.sum() <= 3 * 5
    # Inside an episode each entry starts where the last one led; the entry after an end does not.
    follows = np.all(held.next_observation[:, :-1] == held.observation[:, 1:], axis=-1)
    assert np.all(follows[~ended[:, :-1]])
    assert not np.any(follows[ended[:, :-1]]), "the terminal observation, not the reset one"
    same = np.all(held.latent[:, :-1] == held.latent[:, 1:], axis=-1)
    np.testing.assert_array_equal(same, ~ended[:, :-1])


def test_replay_tells_a_tasks_end_from_a_time_limit_and_from_broken_dynamics():
    class Ends(type(TASK)):
        def transition(self, state, action):
            return super().transition(state, action)._replace(done=jnp.array(True))

    class Breaks(type(TASK)):
        def transition(self, state, action):
            outcome = super().transition(state, action)
            return outcome._replace(state=outcome.state * jnp.nan)

    for task, terminated, finite in (
        (TASK, False, True),
        (Ends(), True, True),
        (Breaks(), False, False),
    ):
        agent = rpg(task, replace(TINY, warm_up=10**6))
        state = jax.jit(agent.init)(KEY)
        for _ in range(2):
            state, _ = jax.jit(agent.update)(state)
        held = jax.tree.map(lambda x: np.asarray(x[:, :8]), state.replay.experience)
        assert held.ended.any()
        assert np.all((held.action == 0.0) == (~held.finite)[..., None]), (
            "one that broke it is gone"
        )
        assert np.all(held.terminated == terminated) and np.all(held.finite == finite)


def test_a_share_of_a_batch_is_of_paid_episodes_under_the_latents_of_others(monkeypatch):
    seen = []

    def watched(parts, config, learner, segment, updates, key):
        jax.debug.callback(seen.append, segment)
        return learn_model(parts, config, learner, segment, updates, key)

    class SeldomPaid(type(TASK)):
        """Pays where the mass is far to the right, which is where few episodes are."""

        def transition(self, state, action):
            outcome = super().transition(state, action)
            return outcome._replace(reward=(outcome.state[0] > -0.55).astype(jnp.float32))

    monkeypatch.setattr(sys.modules["rpgjax.agents.rpg"], "learn_model", watched)
    config = replace(TINY, paid_share=0.5, replay_size=510, warm_up=600)  # replay goes around
    agent = rpg(SeldomPaid(), config)
    state = jax.jit(agent.init)(jax.random.key(0))
    update = jax.jit(agent.update)
    for _ in range(55):
        state, metrics = update(state)
    jax.effects_barrier()
    seen = jax.tree.map(lambda *x: np.stack(x), *seen)  # (update, H, segment, ...)
    paid = [(reward[:, :4].max(0).mean(), reward[:, 4:].max(0).mean()) for reward in seen.reward]
    count = metrics["train/paid_episodes"]
    assert 0 < count < 100
    first, others = np.mean(paid, axis=0)
    assert first > 3 * others
    latents = seen.latent[:, :, :4]
    one = np.all(latents == latents[:, :1], axis=(1, 3))  # unless its episode was forgotten
    assert np.mean(one) > 0.5, "a segment has one latent"
    assert len(np.unique(latents[:, 0][one], axis=0)) > 2 * count, "and not the paid one"
    follows = np.all(seen.next_observation[:, :-1] == seen.observation[:, 1:], axis=(1, 3))
    assert np.all(follows[:, :4][one]), "and is of one episode"


def test_segments_count_up_to_their_first_end():
    ended = jnp.array([[False, True, False], [True, False, False], [False, True, False]])
    expected = [[True, True, True], [True, False, True], [False, False, True]]
    np.testing.assert_array_equal(before_the_end(ended), expected)


def test_what_follows_an_end_teaches_the_model_nothing():
    parts, learner = parts_and_learner()
    batch = segment()
    batch = batch._replace(ended=batch.ended.at[0].set(True))
    mask = before_the_end(batch.ended).astype(jnp.float32)
    states = encode(parts, learner.target, batch.next_observation).obs

    def loss(reward, states):
        arguments = (parts, TINY, learner.model, batch, mask, reward, states, batch.reward)
        return model_loss(*arguments)[0]

    by_reward, by_state = jax.grad(loss, argnums=(0, 1))(batch.reward, states)
    assert np.all(by_reward[1:] == 0) and np.all(by_state[1:] == 0)
    assert np.all(by_reward[0] != 0) and np.any(by_state[0] != 0)


def test_learning_masks_what_follows_an_end_and_asks_the_target_network(monkeypatch):
    seen = {}

    def watched(parts, config, params, segment, mask, reward, states, targets):
        seen.update(mask=mask, states=states)
        return model_loss(parts, config, params, segment, mask, reward, states, targets)

    monkeypatch.setattr(sys.modules["rpgjax.agents.rpg_learning"], "model_loss", watched)
    parts, learner = parts_and_learner()
    learner = learner._replace(target=jax.tree.map(lambda x: x + 0.1, learner.target))
    batch = segment()
    batch = batch._replace(
        ended=batch.ended.at[1, :4].set(True), finite=batch.finite.at[0, 7].set(False)
    )
    learn_model(parts, TINY, learner, batch, jnp.int32(0), KEY)
    expected = np.ones((3, 8))
    expected[2, :4] = expected[0, 7] = 0.0
    np.testing.assert_array_equal(seen["mask"], expected)
    states = encode(parts, learner.target, batch.next_observation).obs
    np.testing.assert_allclose(seen["states"], states, rtol=1e-5, atol=1e-6)


def test_the_models_errors_are_those_of_what_each_step_reached_and_paid():
    """Of a model that adds up actions, pays s and is worth s by one critic, z by the other."""
    config = replace(TINY, state_weight=2.0, reward_weight=3.0, value_weight=5.0)
    parts, learner = parts_and_learner(config)

    def follow(params, first, actions):
        s = first.obs[None] + jnp.cumsum(actions, axis=0)
        return Imagined(ModelState(s, s), s[:, 0])

    parts = parts._replace(
        model=fake_model()._replace(follow=follow),
        critic=lambda params, x: jnp.stack([x[..., 0], x[..., 6]]),
    )
    keys = jax.random.split(KEY, 4)
    o, states = (jax.random.normal(k, (3, 8, 6)) for k in keys[:2])
    reward, targets = (jax.random.normal(k, (3, 8)) for k in keys[2:])
    batch = segment()._replace(observation=o)
    mask = jnp.ones((3, 8)).at[2, :3].set(0.0)
    got, _ = model_loss(parts, config, learner.model, batch, mask, reward, states, targets)
    s = np.asarray(o[:1] + jnp.cumsum(batch.action, axis=0))
    z = np.asarray(batch.latent)[..., 0]
    expected = (
        2 * np.mean(mask * np.mean((s - states) ** 2, -1))
        + 3 * np.mean(mask * (s[..., 0] - reward) ** 2)
        + 5 * np.mean(mask * ((s[..., 0] - targets) ** 2 + (z - targets) ** 2))
    )
    assert float(got) == pytest.approx(float(expected), rel=1e-4)


def test_steps_whose_dynamics_broke_teach_the_model_nothing():
    parts, learner = parts_and_learner()
    batch = segment()._replace(terminated=jnp.ones((3, 8), bool), ended=jnp.ones((3, 8), bool))

    def learned(finite):
        told = batch._replace(finite=jnp.full((3, 8), finite))
        config = replace(TINY, survival=True, novelty_scale=0.0)
        after, metrics = learn_model(parts, config, learner, told, jnp.int32(0), KEY)
        return moved(learner.model, after.model), metrics["train/model_survival"]

    change, missed = learned(True)
    assert change > 0 and missed > 0
    assert learned(False) == (0.0, 0.0)


def fake_model():
    """s' = s + a, and a step pays 10 s': everything imagined is known."""

    def step(params, state, action):
        s = state.obs + action[0]
        return Imagined(ModelState(s, state.hidden), 10.0 * s[0])

    return WorldModel(
        6,
        init=lambda key: {},
        encode=lambda params, o: ModelState(o, o),
        step=step,
        follow=lambda params, state, actions: None,
        survival=lambda params, s: s[0],
    )


def test_rewards_and_values_are_those_of_the_state_that_a_step_reaches():
    parts, learner = parts_and_learner()
    parts = parts._replace(model=fake_model(), critic=lambda params, x: jnp.stack([x[..., 0]] * 2))
    start = ModelState(jnp.zeros((4, 6)), jnp.zeros((4, 6)))
    z = jax.random.normal(jax.random.key(3), (4, 2))
    dream = imagine(
        parts, TINY, learner.model, learner.encoder, learner.actor, start, z, jax.random.key(4)
    )
    window, likelihood, following = dream.window, dream.log_posterior, dream.next_value
    s = np.cumsum(np.asarray(window.action)[..., 0], axis=0)  # s_1, s_2, s_3
    np.testing.assert_allclose(window.reward, 10.0 * s, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(following[0], s, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(window.observation[1:, :, 0], s[:-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(window.latent, np.broadcast_to(z, (3, 4, 2)))
    expected, weight = np.zeros(4), 0.0
    for i in range(3):
        v = sum(0.99**j * 10.0 * s[j] for j in range(i + 1)) + 0.99 ** (i + 1) * s[i]
        v += sum(0.99**j * TINY.information * np.asarray(likelihood)[j] for j in range(i + 1))
        expected += 0.97**i * v
        weight += 0.97**i
    got = bound_value(TINY, dream, 0.0)
    np.testing.assert_allclose(got, np.stack([expected / weight] * 2), rtol=1e-4, atol=1e-4)


def test_each_value_target_is_the_lower_critics_of_its_own_state_and_latent():
    config = replace(TINY, information=0.0)
    parts, learner = parts_and_learner(config)

    def critic(params, x):
        v = x[..., 0] + 10.0 * x[..., 6]
        return jnp.stack([v, -v])

    still = fake_model()._replace(step=lambda params, s, a: Imagined(s, jnp.zeros(())))
    parts = parts._replace(model=still, critic=critic)
    o = jax.random.normal(jax.random.key(3), (3, 8, 6))
    z = jax.random.normal(jax.random.key(4), (3, 8, 2))  # not one for a segment, as behind an end
    learner = learner._replace(log_alpha=jnp.float32(5.0))  # entropies would show
    reached, batch = ModelState(o, o), segment()._replace(latent=z)
    got = value_targets(parts, config, learner, reached, batch, KEY)
    weights = 0.97 ** np.arange(3)
    discount = np.sum(weights * 0.99 ** np.arange(1, 4)) / weights.sum()
    expected = -discount * np.abs(o[..., 0] + 10.0 * z[..., 0])
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_where_the_task_ended_nothing_follows_if_survival_is_learned():
    batch = segment()
    batch = batch._replace(terminated=batch.terminated.at[1, :4].set(True))
    for survival in (False, True):
        config = replace(TINY, survival=survival)
        parts, learner = parts_and_learner(config)
        reached = encode(parts, learner.target, batch.next_observation)
        targets = value_targets(parts, config, learner, reached, batch, jax.random.key(1))
        assert np.all(np.asarray(targets == 0) == np.asarray(batch.terminated & survival))


def test_survival_is_learned_and_shortens_what_is_imagined():
    """With a third of the steps ending, the model comes to say so, and the K-step value falls."""
    config = replace(TINY, survival=True, state_weight=0.0, learning_rate=1e-2)
    parts, learner = parts_and_learner(config)
    batch = segment(batch=48)
    batch = batch._replace(terminated=batch.terminated.at[:, ::3].set(True))
    step = jax.jit(lambda learner: learn_model(parts, config, learner, batch, jnp.int32(0), KEY))
    first, metrics = step(learner)
    before = float(metrics["train/model_survival"])
    assert before == pytest.approx(np.log(2.0), abs=0.3)
    for _ in range(150):
        first, metrics = step(first)
    assert float(metrics["train/model_survival"]) < before - 0.1
    start = encode(parts, first.model, batch.observation[0])
    dream = imagine(
        parts, config, first.model, first.encoder, first.actor, start, batch.latent[0], KEY
    )
    assert dream.survival.shape == (3, 48) and 0.4 < float(dream.survival.mean()) < 0.9
    endless = dream._replace(survival=None, next_value=jnp.full_like(dream.next_value, 100.0))
    ends = endless._replace(survival=dream.survival)
    assert np.all(bound_value(config, ends, 0.0) < bound_value(config, endless, 0.0))


def test_the_policys_gradient_goes_through_model_critic_and_encoder_and_changes_none():
    parts, learner = parts_and_learner(replace(TINY, information=1.0))
    after, _ = learn_policy(
        parts, replace(TINY, information=1.0), learner, segment(), jax.random.key(2)
    )
    assert moved(learner.actor, after.actor) > 0
    assert moved(learner.encoder, after.encoder) > 0
    assert moved(learner.model, after.model) == 0.0
    no_information = replace(TINY, information=0.0)
    other, _ = learn_policy(parts, no_information, learner, segment(), jax.random.key(2))
    assert moved(other.actor, after.actor) > 0, "information reaches the policy"
    assert moved(other.encoder, after.encoder) == 0.0, "the encoder learns the same either way"


def test_the_policy_dreams_from_a_segments_beginning_under_the_latent_it_had(monkeypatch):
    seen = []

    def watched(parts, config, model, encoder, actor, start, z, key, probe=None):
        seen.append((start.obs, z))
        return imagine(parts, config, model, encoder, actor, start, z, key, probe)

    monkeypatch.setattr(sys.modules["rpgjax.agents.rpg_learning"], "imagine", watched)
    parts, learner = parts_and_learner()
    batch = segment()._replace(latent=jax.random.normal(KEY, (3, 8, 2)))
    learn_policy(parts, TINY, learner, batch, KEY)
    [(s, z)] = seen
    np.testing.assert_array_equal(z, batch.latent[0])
    first = encode(parts, learner.model, batch.observation[0]).obs
    np.testing.assert_allclose(s, first, rtol=1e-5)


def test_entropy_reaches_the_policy_by_the_learned_temperature():
    config = replace(
        TINY, information=0.0, action_entropy=1.0, log_std_init=-3.0, learning_rate=1e-2
    )
    parts, first = parts_and_learner(config)
    still = fake_model()._replace(step=lambda params, s, a: Imagined(s, jnp.zeros(())))
    parts = parts._replace(model=still, critic=lambda params, x: jnp.zeros((2, *x.shape[:-1])))
    batch = segment()._replace(observation=jnp.zeros((3, 8, 6)))
    step = jax.jit(lambda learner: learn_policy(parts, config, learner, batch, KEY))
    gained = {}
    for log_alpha in (0.0, -50.0):
        learner, entropy = first._replace(log_alpha=jnp.float32(log_alpha)), []
        for _ in range(20):
            learner, metrics = step(learner)
            entropy.append(float(metrics["train/entropy"]))
        gained[log_alpha] = entropy[-1] - entropy[0]
    assert gained[0.0] > 0.1 and abs(gained[-50.0]) < 1e-3


def test_unused_entries_of_z_are_nothing_to_any_part_and_the_posterior_sees_the_models_state():
    config = replace(TINY, latent_size=3, latent_unused=1.0)
    for refused, why in (
        ({"latent": "discrete"}, "continuous"),
        ({"latent_unused": 4.0}, "at most"),
        ({"latent_unused": 0.5}, "whole"),
    ):
        with pytest.raises(ValueError, match=why):
            rpg(TASK, replace(config, **refused))
    parts, _ = parts_and_learner(config)
    agent = rpg(TASK, config)
    state = jax.jit(agent.init)(KEY)
    encoder, o, a = state.learner.encoder, jnp.array([0.3, -0.2]), jnp.ones(1)
    z = parts.prior.sample((), jnp.zeros(6), KEY)
    assert np.array_equal(z != 0, [True, True, False])
    s = encode(parts, state.learner.model, o).obs
    likelihood = jax.value_and_grad(lambda z: parts.posterior.log_prob(encoder, z, s, a))
    value, slope = likelihood(z)
    assert np.array_equal(slope != 0, [True, True, False])
    assert float(agent.posterior(state)(z, o, a)) == pytest.approx(float(value), rel=1e-5)


def test_a_discrete_latents_worth_is_learned_and_chosen_by():
    """Where acting on one z pays more, Q_z learns it, and pi(z | s_1) goes there."""
    kind = {"latent": "discrete", "latent_size": 3, "latent_entropy": 0.5}
    config = replace(TINY, **kind, learning_rate=3e-2, action_entropy=0.0, information=0.0)
    parts, learner = parts_and_learner(config)
    better = jnp.array([0.0, 3.0, 0.0])
    parts = parts._replace(
        model=fake_model()._replace(step=lambda params, s, a: Imagined(s, jnp.zeros(()))),
        critic=lambda params, x: jnp.stack([x[..., 6:] @ better] * 2),
    )
    batch = segment(batch=24)
    z = jnp.broadcast_to(jax.nn.one_hot(jnp.arange(24) % 3, 3), (3, 24, 3))
    batch = batch._replace(
        latent=z,
        observation=jnp.zeros((3, 24, 6)),
    )
    step = jax.jit(lambda learner: learn_policy(parts, config, learner, batch, KEY)[0])
    for _ in range(300):
        learner = step(learner)
    judged = [parts.prior.worth(learner.actor["prior"], jnp.zeros(6), z) for z in jnp.eye(3)]
    # v_i = bonus_0..i + gamma^(i+1) V: the three depths' discounts, averaged as the K-step value does.
    weights = 0.97 ** np.arange(3)
    discount = float(np.sum(weights * 0.99 ** np.arange(1, 4)) / weights.sum())
    assert float(judged[1] - judged[0]) == pytest.approx(3.0 * discount, abs=0.05)
    chance = jnp.exp(parts.prior.log_prob(learner.actor["prior"], jnp.zeros(6), jnp.eye(3)[1]))
    assert float(chance) > 0.95


def test_novelty_pays_for_all_that_was_reached_and_learns_from_the_first_of_each_segment():
    parts, learner = parts_and_learner()
    reached = segment().next_observation
    after, errors = learn_novelty(parts, learner, reached, counted=jnp.array(True))
    each = jax.vmap(jax.vmap(lambda o: parts.novelty.error(learner.explorer.params, o)))
    np.testing.assert_allclose(errors, each(reached), rtol=1e-4)
    assert float(after.explorer.spread.count) == 8
    assert float(after.explorer.spread.mean) == pytest.approx(float(errors[0].mean()), rel=1e-4)
    other, _ = learn_novelty(parts, learner, reached.at[1:].multiply(3.0), jnp.array(True))
    assert moved(after.explorer.params, other.explorer.params) == 0.0
    other, _ = learn_novelty(parts, learner, reached.at[0].multiply(3.0), jnp.array(True))
    assert moved(after.explorer.params["learned"], other.explorer.params["learned"]) > 0.0
    assert moved(after.explorer.params["fixed"], learner.explorer.params["fixed"]) == 0.0
    early, same = learn_novelty(parts, learner, reached, counted=jnp.array(False))
    assert moved(early.explorer.params, after.explorer.params) == 0.0 and np.array_equal(
        same, errors
    )
    assert float(early.explorer.spread.count) == 0.0, "a fresh network's errors are no yardstick"


def test_values_are_the_target_networks_and_the_policy_is_judged_by_the_critic_of_today():
    parts, learner = parts_and_learner()
    batch = segment()
    other = jax.tree.map(lambda x: x + 0.1, learner.target)

    def targets(learner):
        reached = encode(parts, learner.target, batch.next_observation)
        return value_targets(parts, TINY, learner, reached, batch, KEY)

    before = targets(learner)
    assert moved(before, targets(learner._replace(model=other))) == 0.0
    assert moved(before, targets(learner._replace(target=other))) > 0.0

    def actor(learner):
        return learn_policy(parts, TINY, learner, batch, KEY)[0].actor

    assert moved(actor(learner), actor(learner._replace(target=other))) == 0.0
    assert moved(actor(learner), actor(learner._replace(model=other))) > 0.0


def test_without_a_latent_it_is_the_ablation():
    config = replace(TINY, latent_size=0)
    agent = rpg(TASK, config)
    state = jax.jit(agent.init)(jax.random.key(0))
    for _ in range(3):
        state, metrics = jax.jit(agent.update)(state)
    assert float(metrics["train/log_posterior"]) == 0.0
    assert all(np.all(np.isfinite(value)) for value in metrics.values())


def test_a_flow_is_trained_on_the_bound_without_a_density():
    agent = rpg(TASK, replace(TINY, head="flow"))
    first = state = jax.jit(agent.init)(jax.random.key(0))
    for _ in range(3):
        state, metrics = jax.jit(agent.update)(state)
    assert moved(first.learner.actor, state.learner.actor) > 0
    assert moved(first.learner.log_alpha, state.learner.log_alpha) == 0.0
    assert {"train/l_past", "train/l_uniform"} < set(metrics) and "train/entropy" not in metrics
    assert all(np.all(np.isfinite(value)) for value in metrics.values())


def test_a_flows_regularizers_move_its_field_and_nothing_that_was_imagined():
    config = replace(TINY, head="flow", c_past=1.0, c_uniform=0.5)
    parts, learner = parts_and_learner(config)
    start = encode(parts, learner.model, segment().observation[0])
    networks = learner.model, learner.encoder, learner.actor
    window = imagine(parts, config, *networks, start, segment().latent[0], KEY).window

    def penalty(params, decision, observation):
        imagined = window._replace(decision=decision, observation=observation)
        value, each = parts.penalty(params["head"], imagined, KEY)
        return value, each

    gradients, each = jax.grad(penalty, argnums=(0, 1, 2), has_aux=True)(
        learner.actor, window.decision, window.observation
    )
    assert moved(gradients[0]["head"], jax.tree.map(jnp.zeros_like, gradients[0]["head"])) > 0
    assert np.all(gradients[1] == 0) and np.all(gradients[2] == 0)
    value, _ = penalty(learner.actor, window.decision, window.observation)
    assert float(value) == pytest.approx(
        float(each["train/l_past"] + 0.5 * each["train/l_uniform"]), rel=1e-5
    )


def test_seeds_differ_and_run_under_vmap():
    agent = rpg(TASK, TINY)

    def run(key):
        return jax.lax.scan(lambda s, _: agent.update(s), agent.init(key), None, 3)[1]

    keys = jnp.stack([jax.random.key(5), jax.random.key(6)])
    together = jax.jit(jax.vmap(run))(keys)
    alone = jax.jit(run)(keys[1])
    for name, value in alone.items():
        np.testing.assert_allclose(together[name][1], value, rtol=5e-3, atol=1e-4, err_msg=name)
    assert not np.allclose(*together["train/model_value"])


def test_rewards_are_scaled_and_novelty_is_added_once_it_counts(monkeypatch):
    rewards = []

    def watched(parts, config, params, segment, mask, reward, states, targets):
        rewards.append(reward)
        return model_loss(parts, config, params, segment, mask, reward, states, targets)

    monkeypatch.setattr(sys.modules["rpgjax.agents.rpg_learning"], "model_loss", watched)
    batch = segment()
    parts, learner = parts_and_learner()
    for updates in (TINY.novelty_after - 1, TINY.novelty_after):
        after, metrics = learn_model(parts, TINY, learner, batch, jnp.int32(updates), KEY)
        _, errors = learn_novelty(parts, learner, batch.next_observation, jnp.array(True))
        extra = intrinsic_reward(after.explorer.spread, errors)
        assert bool(jnp.any(extra != 0)) == (updates == TINY.novelty_after)
        np.testing.assert_allclose(rewards.pop(), 5.0 * batch.reward + 0.1 * extra, rtol=1e-4)
        assert float(metrics["train/novelty"]) == pytest.approx(float(extra.mean()), abs=1e-5)


def test_without_novelty_nobody_learns_what_is_new():
    config = replace(TINY, novelty_scale=0.0)
    parts, learner = parts_and_learner(config)
    assert learner.explorer is None
    after, metrics = learn_model(parts, config, learner, segment(), jnp.int32(5), KEY)
    assert moved(learner.model, after.model) > 0 and "train/novelty" not in metrics


def test_the_temperature_rises_where_the_entropy_is_too_low_and_the_target_follows_slowly():
    other = jax.tree.map(lambda x: x + 0.1, parts_and_learner()[1].model)
    for log_std, direction in ((-5.0, 1), (0.0, -1)):  # narrow, and wide
        config = replace(TINY, log_std_init=log_std, target_keep=0.75)
        parts, learner = parts_and_learner(config)
        learner = learner._replace(model=other)
        after, metrics = learn_policy(parts, config, learner, segment(), KEY)
        too_low = float(metrics["train/entropy"]) < -parts.action_size
        assert too_low == (direction == 1)
        assert np.sign(float(after.log_alpha)) == direction
        followed = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, learner.target, other)
        assert moved(after.target, followed) < 1e-6


def test_the_policy_climbs_one_critic_and_not_the_lower():
    parts, learner = parts_and_learner(replace(TINY, information=0.0, action_entropy=0.0))
    config = replace(TINY, information=0.0, action_entropy=0.0)
    flat = fake_model()._replace(
        step=lambda params, s, a: Imagined(s._replace(obs=s.obs + a[0]), 0.0 * a[0])
    )

    def actor(critic):
        seen = parts._replace(model=flat, critic=critic)
        batch = segment()._replace(observation=jnp.zeros((3, 8, 6)))
        return learn_policy(seen, config, learner, batch, KEY)[0].actor

    one = actor(lambda params, x: jnp.stack([x[..., 0], x[..., 0]]))
    first = actor(lambda params, x: jnp.stack([x[..., 0], -100.0 - x[..., 0]]))
    second = actor(lambda params, x: jnp.stack([-100.0 - x[..., 0], x[..., 0]]))
    assert moved(one, first) == 0.0 and moved(one, second) > 0.0


def test_a_gradient_that_breaks_in_imagination_is_counted():
    parts, learner = parts_and_learner()
    _, metrics = learn_policy(parts, TINY, learner, segment(), KEY)
    assert float(metrics["train/nonfinite_fraction"]) == 0.0
    assert 0.0 < float(metrics["train/policy_grad_norm"]) < np.inf
    # Where the first state is large, the square root of something negative.
    broken = fake_model()._replace(
        step=lambda params, s, a: Imagined(
            s._replace(obs=s.obs + a[0]), jnp.sqrt(5.0 - s.obs[0]) * a[0]
        )
    )
    batch = segment()
    batch = batch._replace(observation=jnp.zeros((3, 8, 6)).at[:, :2].set(10.0))
    seen = parts._replace(model=broken, critic=lambda params, x: jnp.stack([x[..., 0]] * 2))
    after, metrics = learn_policy(seen, TINY, learner, batch, KEY)
    assert float(metrics["train/nonfinite_fraction"]) == pytest.approx(2 / 8)
    assert moved(learner.actor, after.actor) > 0, "the others still teach"
    none = parts._replace(critic=lambda params, x: jnp.stack([x[..., 0] * jnp.inf] * 2))
    _, metrics = learn_policy(none, TINY, learner, segment(), KEY)
    assert float(metrics["train/nonfinite_fraction"]) == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updates_per_call": 0}, "updates_per_call"),
        ({"updates_per_call": 3}, "updates_per_call"),
        ({"batch_size": 0}, "batch_size"),
        ({"latent": "discrete", "latent_size": 0}, "latent_size"),
        ({"replay_size": 11}, "replay_size"),
        ({"horizon": 5}, "must not exceed steps_per_call"),
        ({"horizon": 4, "episode_length": 3}, "must not exceed episode_length"),
        ({"paid_share": 0.01}, "no segment"),
        ({"paid_share": 1.5}, "paid_share"),
        ({"num_envs": 0}, "num_envs"),
        ({"hidden": ()}, "hidden"),
    ],
)
def test_sizes_that_cannot_work_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        rpg(TASK, replace(TINY, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"latent": "discrete", "survival": True, "horizon": 1},
        {"num_envs": 1, "horizon": 4, "replay_size": 40, "paid_share": 1.0, "warm_up": 4},
    ],
    ids=["discrete, survival, one step", "one environment, a whole call, paid alone"],
)
def test_whole_updates_at_the_edges_of_what_is_allowed(changes):
    agent = rpg(TASK, replace(TINY, **changes))
    states, update = [agent.init(KEY)], jax.jit(agent.update)
    for _ in range(4):
        state, metrics = update(states[-1])
        states.append(state)
        assert all(np.isfinite(value) for value in metrics.values()), metrics
    for name in ("model", "target", "actor", "encoder"):
        learners = (getattr(state.learner, name) for state in (states[0], states[-1]))
        assert moved(*learners) > 0, name
    assert float(metrics[BROKEN]) == 0.0


def test_a_head_that_carries_something_is_refused():
    head = chunked(linear_head(TINY.model_size + TINY.latent_size, 2), 2)
    nothing = linear_head(TINY.model_size + TINY.latent_size)._replace(reset=lambda *_: None)
    for carrying in (head, nothing):  # imagination gives it ()
        with pytest.raises(ValueError, match="carries something"):
            rpg(TASK, TINY, carrying)


def test_a_head_of_ones_own_takes_the_gaussians_place():
    def program(agent):
        return str(jax.make_jaxpr(agent.update)(jax.eval_shape(agent.init, KEY)))

    own = gaussian(
        TINY.model_size + TINY.latent_size,
        1,
        TINY.hidden,
        TINY.activation,
        state_dependent_std=True,
        log_std_init=TINY.log_std_init,
        layer_norm=False,
    )
    # Reprs of functions in it hold addresses.
    same, theirs = (re.sub("0x[0-9a-f]+", "", program(rpg(TASK, TINY, one))) for one in (own, None))
    assert same == theirs

    linear = linear_head(TINY.model_size + TINY.latent_size)
    parts = make_parts(episodes(TASK, TINY.episode_length), TINY, linear)
    learner = make_learner(parts, jax.random.key(0))
    after, metrics = learn_policy(parts, TINY, learner, segment(), KEY)
    assert moved(learner.actor, after.actor) > 0
    assert float(after.log_alpha) == 0.0, "it has no density, so no entropy to weigh"
    assert "train/entropy" not in metrics
