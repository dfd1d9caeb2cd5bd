"""Every agent on tasks whose answers are known."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs import Wrapper
from heads import linear_head

from rpgjax.agents import AGENTS
from rpgjax.agents.config import check
from rpgjax.agents.flow_regularizers import decisions
from rpgjax.agents.short_horizon import bootstrapped
from rpgjax.envs import analytic
from rpgjax.envs.object_centric import ObjectCentric
from rpgjax.physics.adaptive_horizon import AdaptiveHorizon
from rpgjax.presets import LEARNED
from rpgjax.rollout import Transition

# RPG's world model has tests of its own.
THROUGH_DYNAMICS = sorted(set(AGENTS) - set(LEARNED))
TINY = {
    "num_envs": 8,
    "horizon": 4,
    "episode_length": 50,
    "actor_hidden": (16,),
    "critic_hidden": (16,),
    "encoder_hidden": (16,),
    "critic_passes": 2,
    "critic_minibatches": 2,
    "bank_size": 8,
}


def make(name, env=None, **changes):
    config_type, agent = AGENTS[name]
    config = config_type()
    fields = {k: v for k, v in (TINY | changes).items() if hasattr(config, k)}
    return agent(env or analytic.double_integrator(), replace(config, **fields))


def train(agent, updates, seed=0):
    @jax.jit
    def run(key):
        return jax.lax.scan(lambda s, _: agent.update(s), agent.init(key), None, updates)

    return run(jax.random.key(seed))


@pytest.mark.parametrize("name", THROUGH_DYNAMICS)
def test_seeds_under_vmap_equal_seeds_one_by_one(name):
    agent = make(name)

    def run(key):
        return jax.lax.scan(lambda s, _: agent.update(s), agent.init(key), None, 3)[1]

    together = jax.jit(jax.vmap(run))(jnp.stack([jax.random.key(5), jax.random.key(6)]))
    for index, seed in enumerate((5, 6)):
        alone = jax.jit(run)(jax.random.key(seed))
        for metric, value in alone.items():
            np.testing.assert_allclose(together[metric][index], value, rtol=2e-3, atol=2e-4)
    assert not np.allclose(*together["train/reward_mean"])


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_seeds_start_without_lapack(name):
    """Two batched LAPACK calls at once wait for each other for ever in XLA's CPU thread pool."""
    agent = AGENTS[name][1](analytic.double_integrator(), AGENTS[name][0]())
    keys = jax.random.split(jax.random.key(0), 2)
    assert "lapack" not in jax.jit(jax.vmap(agent.init)).lower(keys).as_text()


def test_rfo_with_chunks_also_runs_under_vmap_and_decides_as_often_as_it_says():
    agent = make("rfo", chunk_length=2, horizon=6)
    state, metrics = train(agent, 2)
    assert all(np.all(np.isfinite(value)) for value in metrics.values())
    # 8 environments, 6 steps, chunks of 2: 24 decisions a window, and one more for each reset that
    # falls inside a chunk.
    assert 24 <= float(state.memory.weight.sum()) <= 32
    assert state.memory.target.shape == (6, 8, 2 * 1)


@pytest.mark.parametrize("name", THROUGH_DYNAMICS)
def test_agents_improve_a_linear_quadratic_regulator(name):
    task = analytic.lqr()
    learning = {
        "num_envs": 32,
        "horizon": 16,
        "episode_length": 64,
        "critic_passes": 4,
        "actor_hidden": (32, 32),
        "critic_hidden": (32, 32),
        "encoder_hidden": (32, 32),
        "latent_size": 2,
        "learning_rate_decay_steps": 40_000,
        "regularizer_decay_steps": 20_000,
    }
    agent = make(name, task, **learning)
    state, _ = train(agent, 80)
    policy = agent.policy(state)
    discount, horizon = 1.0, 32

    def cost(act, x):
        def step(x, t):
            u = task.scale * act(x)
            paid = x @ jnp.asarray(task.state_cost) @ x + u @ jnp.asarray(task.control_cost) @ u
            return jnp.asarray(task.dynamics) @ x + jnp.asarray(task.control) @ u, paid

        return jnp.sum(jax.lax.scan(step, x, jnp.arange(horizon))[1])

    starts = task.spread * jax.random.normal(jax.random.key(9), (64, 4))
    carry = policy.reset(starts[0], jax.random.key(1))
    learned = jax.vmap(lambda x: cost(lambda o: policy.mode(carry, o)[1], x))(starts).mean()
    passive = jax.vmap(lambda x: cost(lambda o: jnp.zeros(2), x))(starts).mean()
    p = jnp.asarray(analytic.riccati(task, discount, horizon).cost[0])
    optimal = jax.vmap(lambda x: x @ p @ x)(starts).mean()
    # The regret that is left, as a fraction of what doing nothing costs over the optimum.
    regret = float((learned - optimal) / (passive - optimal))
    assert 0.0 <= regret < 0.35, f"{name}: cost {learned}, optimal {optimal}, passive {passive}"


@pytest.mark.parametrize("name", THROUGH_DYNAMICS)
def test_traced_settings_can_be_swept_by_vmap(name):
    config_type, agent = AGENTS[name]
    base = config_type()
    base = replace(base, **{k: v for k, v in TINY.items() if hasattr(base, k)})

    def final_norm(rate):
        made = agent(analytic.double_integrator(), replace(base, actor_learning_rate=rate))
        state, _ = jax.lax.scan(lambda s, _: made.update(s), made.init(jax.random.key(0)), None, 3)
        start = made.init(jax.random.key(0)).actor
        moved = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), state.actor, start)
        return sum(jax.tree.leaves(moved))

    slow, fast = jax.jit(jax.vmap(final_norm))(jnp.array([1e-4, 1e-2]))
    assert fast > 10 * slow > 0


def test_rfo_remembers_the_window_it_trained_on():
    agent = make("rfo")
    before = agent.init(jax.random.key(0))
    assert float(before.memory.weight.sum()) == 0.0, "nothing is remembered before the first update"
    after, _ = jax.jit(agent.update)(before)
    assert float(after.memory.weight.sum()) == 8 * 4
    assert float(jnp.abs(after.memory.target).sum()) > 0


class Paced(Wrapper):
    """A task that tells a pace, and may pay for it itself."""

    def __init__(self, env, scale=1.0, paid=0.0):
        super().__init__(env)
        self.scale, self.paid = scale, paid

    def reset(self, rng):
        state = self.env.reset(rng)
        return state.replace(info=state.info | {"pace": jnp.zeros(())})

    def step(self, state, action):
        pace = jnp.sin(action[0]) + state.obs[0]
        state = self.env.step(state, action)
        reward = self.scale * (state.reward + self.paid * pace)
        return state.replace(reward=reward, info=state.info | {"pace": pace})


def test_a_bonus_and_a_scale_train_as_if_the_task_paid_so():
    def trained(reward_scale, pace_bonus, scale, paid):
        task = Paced(analytic.double_integrator(), scale, paid)
        agent = make("shac", task, reward_scale=reward_scale, pace_bonus=pace_bonus)
        return train(agent, 3)

    ours, theirs, plain = (0.5, 3.0, 1.0, 0.0), (1.0, 0.0, 0.5, 3.0), (1.0, 0.0, 1.0, 0.0)
    states, metrics = jax.vmap(trained)(*jnp.array([ours, theirs, plain]).T)
    differences = []
    for leaf in jax.tree.leaves((states.actor, states.critic)):
        np.testing.assert_allclose(leaf[0], leaf[1], rtol=2e-4, atol=2e-5)
        differences.append(float(jnp.abs(leaf[0] - leaf[2]).max()))
    assert max(differences) > 1e-3, "it would not be the same without"
    told = metrics["train/reward_mean"]
    np.testing.assert_allclose(told[0, 0], told[2, 0], rtol=1e-5, err_msg="as the task has it")
    assert not np.allclose(told[0, 0], told[1, 0])


def test_training_starts_again_where_it_has_been():
    task = ObjectCentric(analytic.double_integrator(), lambda state: state.pipeline_state)

    def kept(size):
        """Which of the first states are states where episodes stand."""
        state, _ = train(make("shac", task, archive_size=size, bank_size=64), 1)
        assert np.all(state.rollout.episode.step_count > 0), "or more are there than were put there"
        reached = state.rollout.episode.env_state.obs
        return np.any(np.all(reached[:, None] == state.rollout.bank.obs[None], axis=-1), axis=0)

    assert not np.any(kept(0))
    assert np.sum(kept(32)[:32]) >= 1 and not np.any(kept(32)[32:])


def test_training_can_have_shorter_episodes():
    lengths = {}
    for length in (0, 3):
        state, _ = train(make("shac", training_length=length), 3)
        lengths[length] = int(state.rollout.episode.step_count.max())
    assert lengths[3] < 3 < lengths[0]


class Breaks(Wrapper):
    """A task whose observation and chance of survival break where an action is large."""

    def reset(self, rng):
        state = self.env.reset(rng)
        return state.replace(info=state.info | {"survival": jnp.ones(())})

    def step(self, state, action):
        broken = jnp.where(action[0] > 0.5, jnp.nan, 0.0)
        state = self.env.step(state, action)
        info = state.info | {"survival": jnp.float32(1.0) + broken}
        return state.replace(obs=state.obs + broken, info=info)


@pytest.mark.parametrize("name", ["sapo", "rpg_physics"])
def test_broken_steps_of_a_task_that_tells_survival_cost_no_others(name):
    agent = make(name, Breaks(analytic.double_integrator()), horizon=6)
    before = agent.init(jax.random.key(0))
    after, metrics = jax.jit(agent.update)(before)
    assert 0.0 < metrics["train/nonfinite_fraction"] < 1.0
    assert all(np.all(np.isfinite(value)) for value in metrics.values())
    differs = [
        np.any(a != b)
        for a, b in zip(*map(jax.tree.leaves, (before.actor, after.actor)), strict=True)
    ]
    assert any(differs)


def test_broken_steps_are_no_targets():
    shape = (2, 3)
    window = Transition(
        *[jnp.zeros((*shape, 1))] * 3,
        log_prob=None,
        decision=jnp.zeros((*shape, 1)),
        is_decision=jnp.array([[True] * 3, [False] * 3]),
        reward=jnp.zeros(shape),
        next_observation=jnp.zeros((*shape, 1)),
        terminated=jnp.zeros(shape, bool),
        truncated=jnp.zeros(shape, bool),
        finite=jnp.array([[True, False, True]] * 2),
        survival=jnp.ones(shape),
        pace=jnp.zeros(shape),
        is_first=jnp.zeros(shape, bool),
        latent=None,
    )
    np.testing.assert_array_equal(decisions(window).weight, [[1, 0, 1], [0, 0, 0]])


def test_observation_statistics_are_frozen_inside_a_window_and_updated_after_it():
    agent = make("shac")
    before = agent.init(jax.random.key(0))
    after, _ = jax.jit(agent.update)(before)
    assert float(before.statistics.mean.sum()) == 0.0
    assert int(after.statistics.count.lo) == 8 * 4
    assert float(jnp.abs(after.statistics.mean).sum()) > 0.0


def test_the_learning_rate_falls_to_its_floor_and_stays():
    kept = {}
    for floor in (1.0, 0.1):
        agent = make("shac", learning_rate_decay_steps=32, learning_rate_floor=floor)
        state = train(agent, 5)[0]
        after = jax.jit(agent.update)(state)[0]
        moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), after.actor, state.actor)
        kept[floor] = max(float(x) for x in jax.tree.leaves(moved))
    assert kept[0.1] < 0.3 * kept[1.0]


def test_impossible_settings_are_refused_in_one_line():
    config = AGENTS["rfo"][0]()
    with pytest.raises(ValueError, match="minibatches"):
        check(replace(config, num_envs=3, horizon=3))
    with pytest.raises(ValueError, match="at least 1"):
        check(replace(config, horizon=0))
    with pytest.raises(ValueError, match="archive_size \\(8\\) must not be negative and leave one"):
        make("shac", archive_size=8)
    with pytest.raises(ValueError, match="critic_minibatches must be at least 1"):
        check(replace(config, critic_minibatches=0))
    zeros = {"learning_rate_decay_steps": 0, "regularizer_decay_steps": 0, "max_grad_norm": 0.0}
    for name, zero in zeros.items():
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            check(replace(config, **{name: zero}))
    with pytest.raises(ValueError, match=r"discount \(2\) must be between 0 and 1"):
        check(replace(config, discount=2.0))
    with pytest.raises(ValueError, match=r"uniform_margin \(0\) must be between 1e-06 and 0.5"):
        check(replace(config, uniform_margin=0.0))
    check(replace(config, discount=jnp.array(0.99)))  # that of a sweep is not known


def test_ahac_is_refused_where_it_would_do_nothing():
    config = replace(AGENTS["rfo"][0](), max_growth=1.5)
    check(config)
    with pytest.raises(ValueError, match="max_cotangent_norm limits"):
        check(replace(config, max_cotangent_norm=9.6))
    with pytest.raises(ValueError, match="chunk_length to 1"):
        check(replace(config, chunk_length=2))


def test_adams_averages_must_forget():
    with pytest.raises(ValueError, match="adam_b1"):
        check(replace(AGENTS["shac"][0](), adam_b1=1.0))


class Fades(Wrapper):
    """A task whose chance of going on depends on where it is."""

    def reset(self, rng):
        state = self.env.reset(rng)
        return state.replace(info=state.info | {"survival": jnp.ones(())})

    def step(self, state, action):
        state = self.env.step(state, action)
        chance = jax.nn.sigmoid(2.0 + state.obs[0])
        return state.replace(info=state.info | {"survival": chance})


@pytest.mark.parametrize(
    ("name", "field", "values", "changes", "leaves"),
    [
        ("sapo", "temperature_init", (1e-9, 1.0), ("gradient", "critic"), ()),
        ("sapo", "actor_value", ("mean", "min"), ("gradient",), ("critic",)),
        ("sapo", "target_value", ("mean", "min"), ("critic",), ("gradient",)),
        ("shac", "weight_decay", (0.0, 0.5), ("actor", "critic"), ("gradient",)),
        ("shac", "survival_slope", (0.0, 1.0), ("gradient",), ("critic",)),
        ("rfo", "c_past", (0.0, 0.5), ("gradient",), ()),
        ("rfo", "c_uniform", (0.0, 0.5), ("gradient",), ("critic",)),
    ],
)
def test_each_setting_changes_what_it_is_for_and_no_more(name, field, values, changes, leaves):
    """The norm of the actor's gradient, or parameters after an update."""

    def trained(value):
        # L_past has nothing to remember in the first update.
        agent = make(name, Fades(analytic.double_integrator()), **{field: value})
        state, metrics = train(agent, 2 if field == "c_past" else 1)
        gradient = metrics["train/grad_norm"][-1]
        return {"gradient": gradient, "actor": state.actor, "critic": state.critic}

    one, other = map(trained, values)
    for part in (*changes, *leaves):
        pairs = zip(jax.tree.leaves(one[part]), jax.tree.leaves(other[part]), strict=True)
        same = all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)
        assert same == (part in leaves), part


def test_a_target_critic_follows_slowly_and_a_temperature_is_learned():
    before, after = (train(make("shac", target_critic_keep=0.9), n)[0] for n in (0, 1))
    parts = (before.target_critic, after.critic, after.target_critic)
    for old, new, target in zip(*map(jax.tree.leaves, parts), strict=True):
        np.testing.assert_allclose(target, 0.9 * old + 0.1 * new, rtol=1e-4, atol=1e-6)
    sapo = make("sapo")
    before, after = (train(sapo, n)[0].memory.log_alpha for n in (0, 1))
    assert float(after) != float(before)


def test_a_head_of_ones_own_decides_chunks_too():
    config = replace(AGENTS["shac"][0](), num_envs=8, horizon=4, chunk_length=2)
    head = linear_head(2, actions=2)  # two actions of one entry each
    agent = AGENTS["shac"][1](analytic.double_integrator(), config, head)
    state = jax.jit(agent.init)(jax.random.key(0))
    state = state._replace(averaged_actor=jnp.array([[0.5, 0.1], [-0.5, 0.2]]))
    policy, observation = agent.policy(state), jnp.array([0.3, -0.2])
    carry, actions = policy.reset(observation, jax.random.key(1)), []
    for seen in (observation, 5.0 * observation, observation):
        carry, action = policy.mode(carry, seen)
        actions.append(float(action[0]))
    expected = np.tanh([0.5 * 0.3 - 0.1 * 0.2, -0.5 * 0.3 - 0.2 * 0.2, 0.5 * 0.3 - 0.1 * 0.2])
    np.testing.assert_allclose(actions, expected, rtol=1e-2, err_msg="decided two by two")


def test_the_averaged_actor_is_what_is_evaluated():
    agent = make("shac", actor_average_keep=0.75)
    state = agent.init(jax.random.key(0))
    average = state.actor
    for _ in range(3):
        state, _ = jax.jit(agent.update)(state)
        average = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, average, state.actor)
    for ours, expected in zip(*map(jax.tree.leaves, (state.averaged_actor, average)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    observation = jnp.array([0.3, -0.2])
    _, action = agent.policy(state).mode((), observation)
    _, last = agent.policy(state._replace(averaged_actor=state.actor)).mode((), observation)
    assert not np.allclose(action, last)
    plain = make("shac")
    after, _ = jax.jit(plain.update)(plain.init(jax.random.key(0)))
    same = jax.tree.map(np.array_equal, after.averaged_actor, after.actor)
    assert all(jax.tree.leaves(same))


def test_the_limit_on_cotangents_reaches_the_gradient():
    def norm(limit):
        agent = make("shac", max_cotangent_norm=limit)
        state = agent.init(jax.random.key(0))
        return float(jax.jit(agent.update)(state)[1]["train/grad_norm"])

    free, loose, tight = norm(0.0), norm(1e6), norm(1e-9)
    assert loose == pytest.approx(free, rel=1e-4)
    assert tight < 0.9 * free  # what reaches the actor within a step is never limited


def test_the_horizon_adapts_to_how_stiff_the_dynamics_are():
    def horizon(limit):
        agent = make("shac", max_growth=limit, horizon=8, horizon_rate=0.5)
        state, metrics = train(agent, 12)
        assert float(metrics["train/horizon"][0]) == 8.0
        return float(state.adaptive_horizon.steps)

    assert horizon(1e9) == 8.0
    assert horizon(1e-3) < 4.0


def test_a_horizon_that_never_adapts_changes_nothing():
    norms = []
    for limit in (0.0, 1e9):
        agent = make("shac", max_growth=limit)
        norms.append(np.asarray(train(agent, 3)[1]["train/grad_norm"]))
    np.testing.assert_allclose(*norms, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_an_update_in_float64_keeps_every_type(name, x64):
    agent = make(name, novelty_scale=0.1)
    before = jax.eval_shape(agent.init, jax.random.key(0))
    after, _ = jax.eval_shape(agent.update, before)
    assert jax.tree.map(lambda x: x.dtype, before) == jax.tree.map(lambda x: x.dtype, after)
    assert jnp.dtype("float64") in {x.dtype for x in jax.tree.leaves(before.rollout.episode)}


def test_the_critic_takes_over_at_time_limits_and_where_a_piece_ends():
    truncated = jnp.zeros((7, 2), bool).at[3, 1].set(True)
    pieces = AdaptiveHorizon(jnp.float32(3.0), jnp.zeros(7))
    cut = bootstrapped(truncated, pieces)
    assert np.flatnonzero(cut[:, 0]).tolist() == [2, 5, 6]
    assert np.flatnonzero(cut[:, 1]).tolist() == [2, 3, 5, 6]
    assert np.all(bootstrapped(truncated, None) == truncated)
