import json

import pytest

from rpgjax.training.runs import (
    claim_folder,
    new_folder,
    read_config,
    run_name,
    seed_folders,
    write_config,
)
from rpgjax.training.settings import RunError, TrainSettings

SETTINGS = TrainSettings("rfo", "ant", "spring", seed=4)


def test_new_folders_are_numbered_never_shared(tmp_path):
    name = run_name(SETTINGS)
    assert [new_folder(tmp_path / "runs", name).name for _ in range(3)] == [
        "rfo-ant-spring-seed4",
        "rfo-ant-spring-seed4-2",
        "rfo-ant-spring-seed4-3",
    ]


def test_chosen_folder_must_not_hold_a_run(tmp_path):
    folder = claim_folder(tmp_path / "a" / "b")
    write_config(folder, SETTINGS, 1, group=False, custom=False)
    with pytest.raises(RunError, match="holds a run already") as caught:
        claim_folder(folder)
    assert caught.value.status == 2


def test_config_comes_back_with_versions(tmp_path):
    write_config(tmp_path, SETTINGS, 3, group=False, custom=True)
    config = read_config(tmp_path, {})
    assert (config.settings, config.seeds, config.custom) == (SETTINGS, 3, True)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["versions"]["jax"]
    assert "git_commit" in content


def test_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(RunError, match="no run folder"):
        read_config(tmp_path, {})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match="unreadable"):
        read_config(tmp_path, {})


def test_one_folder_a_seed(tmp_path):
    assert seed_folders(tmp_path, 7, 1) == [tmp_path]
    assert [f.name for f in seed_folders(tmp_path, 7, 2)] == ["seed-7", "seed-8"]
