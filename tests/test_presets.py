import pytest

from rpgjax.agents import AGENTS
from rpgjax.presets import TASKS, UPDATES, preset


@pytest.mark.parametrize("algorithm", sorted(AGENTS))
@pytest.mark.parametrize("env", sorted(TASKS))
def test_every_preset_can_be_made(algorithm, env):
    settings = preset(algorithm, env)
    assert isinstance(settings.agent, AGENTS[algorithm][0])
    assert settings.updates == UPDATES.get(env, settings.updates)
    for field, value in TASKS[env].items():
        if hasattr(settings.agent, field):
            assert getattr(settings.agent, field) == value


def test_an_unknown_algorithm_is_one_clear_line():
    with pytest.raises(ValueError, match=r"unknown algorithm 'ppo'; choose from"):
        preset("ppo", "ant")


def test_presets_name_only_fields_that_some_agent_has():
    fields = {name for config, _ in AGENTS.values() for name in vars(config())}
    assert {name for changes in TASKS.values() for name in changes} <= fields
