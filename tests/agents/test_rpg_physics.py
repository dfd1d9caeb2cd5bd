"""RPG through the simulator: what its parts may and may not touch."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from heads import linear_head

from rpgjax.agents.rpg_physics import RPGPhysicsConfig, rpg_physics, sharply
from rpgjax.envs import analytic
from rpgjax.envs.analytic.double_integrator import DoubleIntegrator
from rpgjax.envs.object_centric import ObjectCentric
from rpgjax.models.latent_encoder import gaussian_encoder
from rpgjax.objectives.novelty import random_network

TINY = RPGPhysicsConfig(
    num_envs=8,
    horizon=4,
    episode_length=50,
    actor_hidden=(16,),
    critic_hidden=(16,),
    encoder_hidden=(16,),
    latent_size=3,
    critic_passes=2,
    critic_minibatches=2,
    bank_size=8,
)


def one_update(**changes):
    agent = rpg_physics(analytic.double_integrator(), replace(TINY, **changes))
    before = agent.init(jax.random.key(0))
    after, metrics = jax.jit(agent.update)(before)
    return before, after, metrics


def moved(before, after):
    return max(
        float(jnp.abs(a - b).max())
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )


@pytest.mark.parametrize("latent", ["continuous", "discrete"])
@pytest.mark.parametrize("head", ["gaussian", "flow"])
def test_every_head_with_every_latent_learns_all_its_parts(head, latent):
    before, after, metrics = one_update(head=head, latent=latent)
    assert all(np.all(np.isfinite(value)) for value in metrics.values())
    assert moved(before.actor["head"], after.actor["head"]) > 0
    assert moved(before.memory.params, after.memory.params) > 0
    assert ("train/l_past" in metrics) == (head == "flow")


class OneShot(DoubleIntegrator):
    """An episode is one step, paid by its action, but no gradient says so: only a score can."""

    def transition(self, state, action):
        outcome = super().transition(state, action)
        return outcome._replace(
            reward=100.0 * jax.lax.stop_gradient(action[0]), done=jnp.array(True)
        )


BY_SCORE = replace(
    TINY,
    latent="discrete",
    num_envs=64,
    horizon=1,
    information=0.0,
    action_entropy=0.0,
    latent_entropy=0.0,
    log_std_init=-5.0,
    actor_learning_rate=1e-2,
)


def test_by_its_score_pi_of_z_goes_to_the_latent_that_pays():
    agent = rpg_physics(OneShot(), BY_SCORE)
    observation = jnp.array([-1.0, 0.0])

    @jax.jit
    def train(state):
        return jax.lax.scan(lambda s, _: (agent.update(s)[0], None), state, None, 100)[0]

    def draws(state):
        """Latents of 300 episodes, and what each of them does."""
        policy = agent.policy(state)

        def first(key):
            carry = policy.reset(observation, key)
            return carry.z, policy.mode(carry, observation)[1][0]

        return jax.vmap(first)(jax.random.split(jax.random.key(1), 300))

    before = agent.init(jax.random.key(0))
    after = train(before)
    z, action = draws(before)
    paid = [float(action[jnp.argmax(z, 1) == k].mean()) for k in range(3)]
    assert np.all(jnp.abs(z.mean(0) - 1 / 3) < 0.1)
    z, _ = draws(after)
    assert np.argmax(z.mean(0)) == np.argmax(paid) and float(z.mean(0).max()) > 0.9
    assert moved(before.actor["head"], after.actor["head"]) == 0.0, "it had nothing to learn from"


@pytest.mark.parametrize("latent_entropy", [0.0, 1000.0])
def test_pi_of_z_is_paid_for_its_entropy(latent_entropy):
    """From a pi that prefers a latent: back to all of them where entropy is worth more than returns."""
    config = replace(BY_SCORE, latent_entropy=latent_entropy, actor_learning_rate=1e-4)
    agent = rpg_physics(OneShot(), config)
    state = agent.init(jax.random.key(0))
    output = state.actor["prior"]["params"]["Dense_2"]
    output["bias"] = jnp.array([0.1, 0.0, 0.0])  # a tenth of the logits

    def update(state, _):
        state, metrics = agent.update(state)
        return state, metrics["train/latent_log_prob"]

    likelihood = jax.jit(lambda state: jax.lax.scan(update, state, None, 40)[1])(state)
    last = float(likelihood[-10:].mean())
    assert last == pytest.approx(-np.log(3.0), abs=0.02) if latent_entropy else last > -0.7


def test_the_temperature_divides_rewards_alone():
    """R / T: ten times the temperature is a tenth of the rewards, with information as it was."""
    task = analytic.double_integrator()

    def objective(**changes):
        return series("train/actor_objective", task, information=0.01, **changes)[0]

    hot = objective(temperature=10.0)
    assert hot == pytest.approx(objective(reward_scale=0.1), rel=1e-5)
    assert hot != pytest.approx(objective(), rel=1e-3)


def test_information_reaches_the_policy_and_how_much_it_counts_not_the_encoder():
    _, without, _ = one_update(information=0.0)
    _, with_it, _ = one_update(information=1.0)
    assert moved(without.actor["head"], with_it.actor["head"]) > 0
    assert moved(without.memory.params, with_it.memory.params) == 0.0


def test_the_encoder_learns_which_latent_did_what():
    """With a policy that is paid to show z, the likelihood of z rises above chance."""
    agent = rpg_physics(
        analytic.double_integrator(),
        replace(
            TINY,
            latent="discrete",
            num_envs=64,
            information=0.3,
            encoder_learning_rate=1e-2,
            encoder_steps=4,
        ),
    )
    run = jax.jit(
        lambda key: jax.lax.scan(lambda s, _: agent.update(s), agent.init(key), None, 60)[1]
    )
    likelihood = np.asarray(run(jax.random.key(0))["train/log_posterior"])
    assert likelihood[0] == pytest.approx(np.log(1 / 3), abs=0.3)
    assert likelihood[-5:].mean() > np.log(1 / 3) + 0.3


def test_the_critic_is_told_the_latent():
    before, _, _ = one_update()
    widths = {leaf.shape[-2] for leaf in jax.tree.leaves(before.critic) if leaf.ndim == 3}
    assert 2 + 3 in widths


def series(metric, task, **changes):
    """A metric of five updates."""
    agent = rpg_physics(task, replace(TINY, **changes))
    run = lambda k: jax.lax.scan(lambda s, _: agent.update(s), agent.init(k), None, 5)[1]  # noqa: E731
    return np.asarray(jax.jit(run)(jax.random.key(0))[metric])


@pytest.mark.parametrize(
    ("weight", "floor"),
    [
        ("information", "information_floor"),
        ("action_entropy", "action_entropy_floor"),
        ("novelty_scale", "novelty_floor"),
    ],
)
def test_each_weight_falls_linearly_to_its_own_floor_and_stays(weight, floor):
    """Nothing is learned: objectives differ by the weight alone."""
    still = {f"{part}_learning_rate": 0.0 for part in ("actor", "critic", "encoder", "novelty")}
    none = {"information": 0.0, "action_entropy": 0.0, "novelty_scale": 0.0, "novelty_after": 0}
    steps = {"weights_decay_steps": 2 * TINY.num_envs * TINY.horizon}
    task = ObjectCentric(Unpaid(), lambda state: state.pipeline_state / 2.0)

    def objective(**changes):
        return series("train/actor_objective", task, **(none | still | steps | changes))

    without = objective()
    kept, falls = (objective(**{weight: 10.0, floor: left}) - without for left in (1.0, 0.2))
    np.testing.assert_allclose(falls[1:] / kept[1:], [0.6, 0.2, 0.2, 0.2], rtol=1e-2)


def test_a_flows_regularizers_fall_to_their_floor():
    changes = {"head": "flow", "return_weight": 0.0, "actor_learning_rate": 0.0}
    changes |= {"regularizer_decay_steps": 2 * TINY.num_envs * TINY.horizon}
    task = analytic.double_integrator()
    falls, kept = (
        series("train/grad_norm", task, regularizer_floor=left, **changes) for left in (0.2, 1.0)
    )
    np.testing.assert_allclose(falls / kept, [1.0, 0.6, 0.2, 0.2, 0.2], rtol=1e-3)


def test_information_may_be_about_the_objects_alone():
    """Then p_phi sees their features, not the raw state or the action; elsewhere it is refused."""
    task = ObjectCentric(analytic.double_integrator(), lambda state: state.pipeline_state[:1])
    agent = rpg_physics(task, replace(TINY, information_about="objects"))
    state = agent.init(jax.random.key(0))
    score, z = agent.posterior(state), jnp.array([1.0, 0.0, -1.0])
    slopes = jax.grad(score, argnums=(1, 2))(z, jnp.ones(2 + 13), jnp.ones(1))
    assert np.all(slopes[0][:2] == 0) and np.all(slopes[0][2:] != 0) and np.all(slopes[1] == 0)
    with pytest.raises(ValueError, match="a task with objects"):
        rpg_physics(analytic.double_integrator(), replace(TINY, information_about="objects"))


def test_by_soft_q_without_a_temperature_the_best_latent_is_drawn():
    """alpha_z may fall to nothing."""
    changes = {"latent": "discrete", "latent_choice": "soft_q", "actor_average_keep": 0.0}
    steps = TINY.num_envs * TINY.horizon
    changes |= {"latent_entropy": 0.5, "latent_entropy_floor": 0.0, "weights_decay_steps": steps}
    agent = rpg_physics(analytic.double_integrator(), replace(TINY, **changes))
    state = agent.init(jax.random.key(0))
    for _ in range(2):
        state, metrics = jax.jit(agent.update)(state)
    assert all(np.all(np.isfinite(value)) for value in metrics.values())
    policy, observation = agent.policy(state), jnp.array([-1.0, 0.0])
    keys = jax.random.split(jax.random.key(1), 50)
    drawn = jax.vmap(lambda key: policy.reset(observation, key).z)(keys)
    assert np.all(drawn == drawn[:1]) and float(drawn[0].sum()) == 1.0


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_by_soft_q_latents_are_chosen_by_the_critic_and_without_noise(keep):
    """pi(z | s_1) is softmax(V / alpha_z) of the critic after every update; uniform before the first."""
    changes = {"latent": "discrete", "latent_choice": "soft_q", "latent_entropy": 0.5}
    before, after, metrics = one_update(actor_average_keep=keep, **changes)
    assert float(before.actor["prior"]["sharpness"]) == 0.0
    assert float(metrics["train/latent_log_prob"]) == pytest.approx(-np.log(3.0), rel=1e-5)
    prior = after.actor["prior"]
    assert moved(prior["critic"], after.critic) == 0.0 and float(prior["sharpness"]) == 2.0
    # The averaged actor, which is evaluated, comes along.
    assert float(after.averaged_actor["prior"]["sharpness"]) == 2.0 * (1.0 - keep)


class Unpaid(DoubleIntegrator):
    """It pays nothing: only what is new is worth going for."""

    def transition(self, state, action):
        outcome = super().transition(state, action)
        return outcome._replace(reward=jnp.zeros_like(outcome.reward))


def reach(**changes):
    """How far windows get from the start on average, late in training, by novelty alone."""
    task = ObjectCentric(Unpaid(), lambda state: state.pipeline_state / 4.0)
    config = replace(TINY, num_envs=16, horizon=8, novelty_width=32, **changes)
    agent = rpg_physics(task, config)

    def update(state, _):
        state, metrics = agent.update(state)
        places = state.rollout.episode.env_state.pipeline_state
        return state, (jnp.mean(jnp.abs(places)), metrics)

    run = jax.jit(lambda key: jax.lax.scan(update, agent.init(key), None, 150))
    state, (far, metrics) = run(jax.random.key(0))
    return float(far[-50:].mean()), state, metrics


def test_novelty_draws_the_policy_to_where_it_has_not_been():
    near, state, _ = reach()
    assert state.memory.explorer is None, "nobody pays for what is not asked for"
    far, state, metrics = reach(novelty_scale=1.0)
    assert far > 1.5 * near
    assert float(state.memory.explorer.spread.count) == (150 - 13) * 16 * 8  # after 100 steps of it
    assert np.all(metrics["train/novelty"][:13] == 0.0) and np.all(
        np.isfinite(metrics["train/novelty"])
    )


def test_novelty_and_p_phi_see_raw_places_that_were_reached_as_sharply_as_critics():
    task = ObjectCentric(Unpaid(), lambda state: state.pipeline_state / 2.0)
    (watch, added), width = sharply(task, 3), task.object_features
    config = replace(
        TINY,
        horizon=1,
        episode_length=10_000,
        novelty_scale=1.0,
        novelty_after=0,
        novelty_width=16,
        information_about="objects",
        object_frequencies=3,
    )
    agent = rpg_physics(task, config)
    update = jax.jit(agent.update)
    before, _ = update(agent.init(jax.random.key(0)))  # normalisation is no identity any more
    after, _ = update(before)
    assert np.all(after.rollout.episode.step_count > 0)
    reached, known = after.rollout.episode.env_state.obs, before.memory.explorer
    novelty = random_network(width + added, 16)
    errors = jax.vmap(lambda o: novelty.error(known.params, watch(o[-width:])))(reached)
    mean = (8 * float(known.spread.mean) + float(errors.sum())) / 16
    assert float(after.memory.explorer.spread.mean) == pytest.approx(mean, rel=1e-4)
    z, o = jnp.array([1.0, 0.0, -1.0]), reached[0]
    encoder = gaussian_encoder(3, width + added, 0, (16,))
    told = encoder.log_prob(after.memory.params, z, watch(o[-width:]), jnp.zeros(0))
    assert float(agent.posterior(after)(z, o, jnp.ones(1))) == pytest.approx(float(told), rel=1e-4)


class Leaps(Unpaid):
    """Every step ends its episode."""

    def transition(self, state, action):
        return super().transition(state, action)._replace(done=jnp.array(True))


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_what_a_step_reaches_is_what_is_new_even_where_the_episode_ends(scale):
    """Neither where it began nor where the next one begins has a slope in the action."""
    task = ObjectCentric(Leaps(), lambda state: state.pipeline_state / 2.0)
    nothing_else = {"discount": 0.0, "information": 0.0, "action_entropy": 0.0}
    config = replace(TINY, horizon=1, novelty_scale=scale, novelty_after=0, **nothing_else)
    agent = rpg_physics(task, config)
    state, _ = jax.jit(agent.update)(agent.init(jax.random.key(0)))
    norm = float(jax.jit(agent.update)(state)[1]["train/grad_norm"])
    assert (norm > 0) == (scale > 0)


def test_a_discrete_latent_has_a_size():
    with pytest.raises(ValueError, match="latent_size"):
        rpg_physics(analytic.double_integrator(), replace(TINY, latent="discrete", latent_size=0))


def test_critics_may_see_places_more_sharply_than_heads():
    task = ObjectCentric(analytic.double_integrator(), lambda state: state.pipeline_state / 2.0)
    watch, added = sharply(task, 5)
    o = jnp.arange(1.0, 1.0 + task.observation_size) / 10.0
    assert watch(o).shape == (task.observation_size + added,) and added == 2 * 5 * 2
    np.testing.assert_array_equal(watch(o)[: task.observation_size], o)
    x = o[2:4]  # behind the raw state
    np.testing.assert_allclose(watch(o)[-4:], [*jnp.sin(32 * x), *jnp.cos(32 * x)], atol=1e-5)
    soft_q = {"latent": "discrete", "latent_choice": "soft_q"}
    agent = rpg_physics(task, replace(TINY, object_frequencies=5, **soft_q))
    state, metrics = jax.jit(agent.update)(agent.init(jax.random.key(0)))
    kernels = {leaf.shape[-2] for leaf in jax.tree.leaves(state.critic) if leaf.ndim == 3}
    assert task.observation_size + added + 3 in kernels
    assert all(np.all(np.isfinite(value)) for value in metrics.values())
    with pytest.raises(ValueError, match="a task with objects"):
        rpg_physics(analytic.double_integrator(), replace(TINY, object_frequencies=5))


def test_a_head_of_ones_own_climbs_the_bound():
    task, size = analytic.double_integrator(), 2 + TINY.latent_size
    agent = rpg_physics(task, TINY, linear_head(size))
    before = agent.init(jax.random.key(0))
    after, metrics = jax.jit(agent.update)(before)
    assert after.actor["head"].shape == (1, size)
    assert float(jnp.abs(after.actor["head"]).max()) > 0.0
    assert "train/entropy" not in metrics
