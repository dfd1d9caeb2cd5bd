import json
import shutil
import subprocess
from dataclasses import replace

import jax
import pytest

from rpgjax.agents import AGENTS
from rpgjax.presets import preset
from rpgjax.training import launch, runs
from rpgjax.training.runs import (
    claim_folder,
    git_commit,
    locked,
    new_folder,
    read_config,
    run_name,
    seed_folders,
    setting_values,
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
    folder = claim_folder(tmp_path / "a" / "b", SETTINGS, 1, custom=False)
    with pytest.raises(RunError, match="holds a run already") as caught:
        claim_folder(folder, replace(SETTINGS, seed=5), 1, custom=False)
    assert caught.value.status == 2
    assert read_config(folder, {}).settings.seed == SETTINGS.seed, "the run's, not the other's"


def test_of_two_that_start_at_once_one_gets_the_folder(tmp_path):
    with locked([tmp_path]), pytest.raises(RunError, match="another process"):
        claim_folder(tmp_path, SETTINGS, 1, custom=False)
    assert not (tmp_path / "config.json").exists()


def test_seeds_do_not_take_the_folder_of_a_run(tmp_path):
    claim_folder(tmp_path / "a" / "seed-4", SETTINGS, 1, custom=False)
    claim_folder(tmp_path / "b" / "seed-4", SETTINGS, 1, custom=False)
    claim_folder(tmp_path / "a", replace(SETTINGS, seed=5), 2, custom=False)
    with pytest.raises(RunError, match="seed-4 holds a run already"):
        claim_folder(tmp_path / "b", replace(SETTINGS, seed=3), 2, custom=False)


def test_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunError, match="cannot make the run folder"):
        new_folder(tmp_path / "runs", "a")


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("kind", [ValueError, RunError])
def test_a_run_that_never_began_leaves_nothing(tmp_path, seeds, kind, monkeypatch):
    def refuse(*arguments, **options):
        for folder in seed_folders(tmp_path / "a", 0, seeds):
            folder.mkdir(exist_ok=True)
            (folder / "metrics.jsonl").write_text(written)
            (folder / "checkpoints").mkdir()
        raise kind("this cannot be traced")

    monkeypatch.setattr(launch, "fit", refuse)
    written = ""
    with pytest.raises(kind, match="cannot be traced"):
        launch.train("apg", "lqr", out=tmp_path / "a", seeds=seeds, progress=False)
    assert not (tmp_path / "a").exists()
    written = "{}"
    with pytest.raises(kind, match="cannot be traced"):
        launch.train("apg", "lqr", out=tmp_path / "a", seeds=seeds, progress=False)
    assert (tmp_path / "a" / "config.json").exists(), "what was trained stays"


def test_config_comes_back_with_versions(tmp_path):
    write_config(tmp_path, SETTINGS, 3, group=False, custom=True)
    config = read_config(tmp_path, {})
    assert (config.settings, config.seeds, config.custom) == (SETTINGS, 3, True)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["versions"]["jax"]
    assert "git_commit" in content


def test_the_commit_of_a_changed_package_is_marked(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(("git", *who, *arguments), cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "rpgjax"
    for name in ("__init__.py", "training/runs.py", "agents/rfo.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    git("init")
    git("add", ".")
    git("commit", "-m", "a")
    monkeypatch.delenv("RPGJAX_COMMIT", raising=False)
    monkeypatch.setattr(runs, "__file__", str(package / "training" / "runs.py"))
    clean = git_commit()
    assert len(clean) == 40
    (tmp_path / "notes.txt").write_text("what is beside the package decides no numbers")
    assert git_commit() == clean
    (package / "agents" / "rfo.py").write_text("changed")
    assert git_commit() == clean + "+"
    shutil.rmtree(tmp_path / ".git")
    assert git_commit() is None


def test_64_bits_are_not_for_a_run_in_32(tmp_path):
    write_config(tmp_path, preset("rfo", "lqr", None), 1, group=False, custom=False)
    with jax.enable_x64(True), pytest.raises(RunError, match="32 bits"):
        launch.load(tmp_path)


def test_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(RunError, match="no run folder"):
        read_config(tmp_path, {})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match="unreadable"):
        read_config(tmp_path, {})


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("settings", "agent", "flow_solver"), "foo"),
        (("settings", "agent", "actor_hidden"), 32),
        (("settings", "agent"), None),
        (("settings", "env"), None),
        (("settings", "seed"), "a"),
        (("settings", "updates"), 12.5),
        (("seeds",), "two"),
        (("seeds",), 0),
        ((), []),
    ],
)
def test_a_config_that_was_spoilt_is_one_line(where, value, tmp_path):
    types = {name: config for name, (config, _) in AGENTS.items()}
    settings = preset("rfo", "lqr", None)
    write_config(tmp_path, settings, 1, group=False, custom=False)
    assert read_config(tmp_path, types).settings == settings
    content = json.loads((tmp_path / "config.json").read_text())
    for part in reversed(range(len(where))):
        outer = content
        for name in where[:part]:
            outer = outer[name]
        value = outer | {where[part]: value}
    (tmp_path / "config.json").write_text(json.dumps(value))
    with pytest.raises(RunError, match=r"config\.json"):
        read_config(tmp_path, types)
    setting_values(tmp_path)  # for labels, it does not matter


def test_one_folder_a_seed(tmp_path):
    assert seed_folders(tmp_path, 7, 1) == [tmp_path]
    assert [f.name for f in seed_folders(tmp_path, 7, 2)] == ["seed-7", "seed-8"]
