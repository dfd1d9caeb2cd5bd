import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import pytest

from rpgjax.training.settings import (
    RunError,
    TrainSettings,
    settings_from_json,
    settings_to_json,
    training_hash,
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


def test_hash_is_of_what_is_trained():
    def changed(**fields):
        return training_hash(dataclasses.replace(SETTINGS, **fields))

    original = training_hash(SETTINGS)
    assert changed(updates=1, eval_every=7, eval_episodes=1, checkpoint_every=2) == original
    different = [
        changed(seed=4),
        changed(env="ant"),
        changed(backend=None),
        changed(agent=Config(rate=2.0)),
    ]
    assert len({original, *different}) == 5


def test_hash_outlives_new_fields():
    @dataclass(frozen=True)
    class Later(Config):
        slope: float = 0.0
        sizes: tuple[int, ...] = (2, 3)

    def hash_of(agent):
        return training_hash(dataclasses.replace(SETTINGS, agent=agent))

    assert hash_of(Later()) == hash_of(Config())
    assert hash_of(Later(rate=1, hidden=(7,))) == training_hash(SETTINGS)
    different = [hash_of(agent) for agent in (Later(), Later(slope=0.5), Later(sizes=(2,)))]
    assert len(set(different)) == 3


def test_numbers_of_any_kind_come_back():
    agent = Config(rate=np.float32(0.5), hidden=(np.int64(7), 8))
    settings = dataclasses.replace(SETTINGS, agent=agent)
    again = settings_from_json(json.loads(json.dumps(settings_to_json(settings))), Config)
    assert again == settings and isinstance(again.agent.hidden[0], int)


def test_a_whole_number_is_the_same_run_after_a_trip_through_json():
    settings = dataclasses.replace(SETTINGS, agent=Config(rate=2))
    again = settings_from_json(settings_to_json(settings), Config)
    assert training_hash(again) == training_hash(settings)


def test_schedules_are_positive():
    with pytest.raises(ValueError, match="eval_every is 0"):
        TrainSettings("toy", "line", eval_every=0)
