import pytest

from rpgjax.agents import AGENTS
from rpgjax.presets import (
    COMPLIANT,
    LEARNED,
    LEARNED_TASKS,
    LEARNED_UPDATES,
    SMALL,
    TASKS,
    UPDATES,
    preset,
)


@pytest.mark.parametrize("algorithm", sorted(AGENTS))
@pytest.mark.parametrize("env", sorted(TASKS))
def test_every_preset_can_be_made(algorithm, env):
    settings = preset(algorithm, env)
    assert isinstance(settings.agent, AGENTS[algorithm][0])
    known = LEARNED_UPDATES if algorithm in LEARNED else UPDATES
    assert settings.updates == known.get(env, 200)
    if algorithm in LEARNED:
        shared = {k: v for k, v in TASKS[env].items() if k == "episode_length"}
        expected = shared | LEARNED_TASKS.get(env, {})
    else:
        expected = TASKS[env]
    for field, value in expected.items():
        if hasattr(settings.agent, field):
            assert getattr(settings.agent, field) == value


def test_a_world_models_agent_takes_no_settings_that_are_meant_for_others():
    assert preset("rpg", "ant").agent == AGENTS["rpg"][0]()
    assert preset("rpg", "two_routes").agent == AGENTS["rpg"][0](episode_length=40)


@pytest.mark.parametrize(
    ("env", "backend"),
    [("ant", "spring"), ("swimmer", "generalized"), ("gap_maze", None), ("my own", None)],
)
def test_a_task_gets_a_backend_that_it_has(env, backend):
    assert preset("rfo", env).backend == backend


def test_an_unknown_algorithm_is_one_clear_line():
    with pytest.raises(ValueError, match=r"unknown algorithm 'ppo'; choose from"):
        preset("ppo", "ant")


def test_presets_name_only_fields_that_some_agent_has():
    fields = {name for config, _ in AGENTS.values() for name in vars(config())}
    tables = (*TASKS.values(), *COMPLIANT.values(), *LEARNED_TASKS.values(), SMALL)
    assert {name for changes in tables for name in changes} <= fields
    own = {name for algorithm in LEARNED for name in vars(AGENTS[algorithm][0]())}
    assert {name for changes in LEARNED_TASKS.values() for name in changes} <= own


@pytest.mark.parametrize("backend", ["compliant", "spring-smoothed"])
def test_smooth_physics_have_presets_of_their_own(backend):
    assert preset("rfo", "halfcheetah").agent.max_growth == 1.5
    assert preset("rfo", "halfcheetah", backend).agent.max_growth == 0.0
    assert preset("shac", "walker2d", backend).agent.actor_average_keep == 0.9
    assert preset("shac", "walker2d", "spring").agent.actor_average_keep == 0.0


@pytest.mark.parametrize(
    ("backend", "episodes"),
    [
        ("spring", 64),
        ("compliant", 64),
        ("spring-smoothed", 64),
        ("generalized", 16),
        ("generalized-smoothed", 16),
        ("mjx-smoothed", 16),
    ],
)
def test_evaluations_are_shorter_where_steps_are_dear(backend, episodes):
    assert preset("rfo", "ant", backend).eval_episodes == episodes
