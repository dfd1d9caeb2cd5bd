import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import pytest

from rpgjax.training.settings import (
    RunError,
    TrainSettings,
    difference,
    settings_from_json,
    settings_to_json,
    trained,
)


@dataclass(frozen=True)
class Config:
    rate: float = 1e-3
    hidden: tuple[int, ...] = (4, 4)
    name: str = "silu"
    flag: bool = False


SETTINGS = TrainSettings("toy", "line", "spring", seed=3, agent=Config(rate=1, hidden=(7,)))


def test_json_round_trip():
    again = settings_from_json(settings_to_json(SETTINGS), Config)
    assert again == SETTINGS
    assert isinstance(again.agent.hidden, tuple)
    own = dataclasses.replace(SETTINGS, agent=None)
    assert settings_from_json(settings_to_json(own), None) == own


def test_unknown_field_is_one_line():
    fields = settings_to_json(SETTINGS)
    fields["agent"]["temperature"] = 1.0
    with pytest.raises(RunError, match="temperature"):
        settings_from_json(fields, Config)


def test_what_is_trained_is_not_how_long():
    def changed(**fields):
        return difference(dataclasses.replace(SETTINGS, **fields), trained(SETTINGS))

    assert changed(updates=1, eval_every=7, eval_episodes=1, checkpoint_every=2) is None
    assert changed(seed=4) == "seed was 3, and is 4"
    assert changed(env="ant") and changed(backend=None) and changed(agent=None)
    assert changed(agent=Config(rate=2.0, hidden=(7,))) == "agent.rate was 1, and is 2.0"
    assert difference(SETTINGS, trained(dataclasses.replace(SETTINGS, agent=None)))


def test_what_was_trained_outlives_new_fields_and_new_defaults():
    @dataclass(frozen=True)
    class Later(Config):
        rate: float = 2e-3
        slope: float = 0.0
        sizes: tuple[int, ...] = (2, 3)

    def since(agent):
        return difference(dataclasses.replace(SETTINGS, agent=agent), trained(SETTINGS))

    assert since(Later(rate=1, hidden=(7,))) is None
    assert since(Later(hidden=(7,))) == "agent.rate was 1, and is 0.002"
    assert since(Later(rate=1, hidden=(7,), slope=0.5)) == "agent.slope was 0.0, and is 0.5"
    assert since(Later(rate=1, hidden=(7,), sizes=(2,)))


def test_numbers_of_any_kind_come_back():
    agent = Config(rate=np.float32(0.5), hidden=(np.int64(7), 8))
    settings = dataclasses.replace(SETTINGS, agent=agent)
    again = settings_from_json(json.loads(json.dumps(settings_to_json(settings))), Config)
    assert again == settings and isinstance(again.agent.hidden[0], int)


def test_a_whole_number_is_the_same_run_after_a_trip_through_json():
    settings = dataclasses.replace(SETTINGS, agent=Config(rate=2))
    again = settings_from_json(settings_to_json(settings), Config)
    assert difference(settings, trained(again)) is difference(again, trained(settings)) is None


def test_schedules_are_positive():
    with pytest.raises(ValueError, match="eval_every is 0"):
        TrainSettings("toy", "line", eval_every=0)
