"""The run folder: where a run keeps its configuration, and how one is found again."""

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from rpgjax.training.metrics import write_json
from rpgjax.training.settings import (
    RunError,
    TrainSettings,
    settings_from_json,
    settings_to_json,
)
from rpgjax.types import Count, check_value

_PACKAGES = ("rpgjax", "jax", "jaxlib", "brax", "mujoco", "mujoco-mjx", "flax", "optax", "numpy")


class RunConfig(NamedTuple):
    """What `config.json` says."""

    settings: TrainSettings
    seeds: int  # 1, or how many seed folders the folder holds
    group: bool  # this is one seed of a run of several
    x64: bool
    custom: bool  # trained on a task or an agent that only its own program can make


def run_name(settings: TrainSettings) -> str:
    """`rfo-ant-spring-seed0`."""
    parts = (settings.algorithm, settings.env, settings.backend, f"seed{settings.seed}")
    return "-".join(part for part in parts if part)


def new_folder(parent: Path, name: str) -> Path:
    """Makes `parent/name`, or the first free `parent/name-2`, `-3`, ...: never an existing one."""
    _make(parent)
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            continue
        return folder


def claim_folder(folder: Path, settings: TrainSettings, seeds: int, custom: bool) -> Path:
    """Makes `folder` a new run's, if neither it nor a folder that its seeds will have holds a run.

    Raises:
        RunError: one of them holds a run already, another process is at it, or it is a file.
    """
    _make(folder)
    with locked([folder]):  # of two that start at once, one gets it
        for taken in (folder, *seed_folders(folder, settings.seed, seeds)):
            if holds_run(taken):
                raise RunError(
                    f"{taken} holds a run already; go on with it by `rpgjax resume {taken}` "
                    "or choose another --out",
                    status=2,
                )
        record_config(folder, settings, seeds, custom)
    return folder


def release_folder(root: Path, seed: int, seeds: int) -> None:
    """Takes back what a run that never began has left, and the folders that are empty then."""
    folders = seed_folders(root, seed, seeds)
    for folder in folders:
        metrics, checkpoints = folder / "metrics.jsonl", folder / "checkpoints"
        if metrics.exists() and metrics.stat().st_size:
            return
        if checkpoints.exists() and any(checkpoints.iterdir()):
            return
    for folder in (*folders, root):
        for name in ("config.json", "metrics.jsonl", ".lock"):
            (folder / name).unlink(missing_ok=True)
        for empty in (folder / "checkpoints", folder):
            with contextlib.suppress(OSError):  # not there, or somebody's
                empty.rmdir()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the run folder {folder}: {error.strerror}", 2) from error


def holds_run(folder: Path) -> bool:
    """Whether `folder` has anything of a run in it."""
    return any((folder / name).exists() for name in ("config.json", "metrics.jsonl", "checkpoints"))


def seed_folders(root: Path, seed: int, seeds: int) -> list[Path]:
    """One folder per seed: `root` itself for one, `root/seed-K` for several."""
    return [root] if seeds == 1 else [root / f"seed-{seed + index}" for index in range(seeds)]


def record_config(root: Path, settings: TrainSettings, seeds: int, custom: bool) -> None:
    """Writes `config.json` into a run's folder, and into each seed's."""
    for index, folder in enumerate(seed_folders(root, settings.seed, seeds)):
        if seeds > 1:
            folder.mkdir(exist_ok=True)
            one = replace(settings, seed=settings.seed + index)
            write_config(folder, one, seeds=1, group=True, custom=custom)
    write_config(root, settings, seeds, group=False, custom=custom)


def write_config(
    folder: Path, settings: TrainSettings, seeds: int, group: bool, custom: bool
) -> None:
    """Writes `config.json`: settings, versions, the machine, the commit and the command."""
    write_json(
        folder / "config.json",
        {
            "settings": settings_to_json(settings),
            "seeds": seeds,
            "group": group,
            "custom": custom,
            "x64": bool(jax.config.jax_enable_x64),
            **origin(),
            "command": sys.argv,
        },
    )


def write_goal(folder: Path, updates: int) -> None:
    """Changes how long a run is to train in its `config.json`, and nothing else."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    write_json(path, content | {"settings": content["settings"] | {"updates": updates}})


def read_config(folder: Path, config_types: dict[str, type]) -> RunConfig:
    """Reads `config.json`.

    Args:
        folder: a run folder, or the folder of a run of several seeds.
        config_types: the config dataclass of every known algorithm.

    Raises:
        RunError: there is no run, or its configuration is unreadable or of another version.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text())
        settings = content["settings"]
        config_type = config_types.get(settings["algorithm"])
        check_value("seeds", content["seeds"], Count)
        return RunConfig(
            settings=settings_from_json(settings, config_type),
            seeds=content["seeds"],
            group=content["group"],
            x64=content["x64"],
            custom=content["custom"],
        )
    except FileNotFoundError as error:
        raise RunError(f"{folder} is no run folder: it has no config.json", 2) from error
    except NotADirectoryError as error:
        raise RunError(f"{folder} is no run folder", 2) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is unreadable: {error}") from error


@contextlib.contextmanager
def locked(folders: Sequence[Path]) -> Iterator[None]:
    """Holds the folders for this process; the system lets go of them when the process ends.

    Raises:
        RunError: another process trains in one of them.
    """
    with contextlib.ExitStack() as stack:
        for folder in folders:
            file = stack.enter_context((folder / ".lock").open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(f"another process is training in {folder}") from error
            except OSError:
                pass  # a file system without locks
        yield


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def origin() -> dict[str, Any]:
    """Where numbers come from: versions, commit and machine."""
    return {"versions": versions(), "git_commit": git_commit(), "device": device_description()}


def device_description() -> str:
    """`2 x cpu`, `1 x NVIDIA H100 80GB HBM3`."""
    devices = jax.devices()
    kind = devices[0].device_kind
    cores = f", {os.cpu_count()} cores" if devices[0].platform == "cpu" else ""
    return f"{len(devices)} x {kind}{cores}"


def git_commit() -> str | None:
    """The commit of the checkout that this code runs from, `+` if it was changed; None without.

    `$RPGJAX_COMMIT` says it where it is set: for code that was copied without its repository.
    """
    package = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ("git", *arguments), cwd=package, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    if told := os.environ.get("RPGJAX_COMMIT"):
        return told
    try:
        # A package installed inside somebody else's repository is not of that repository's commit.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def setting_values(folder: Path) -> dict[str, Any]:
    """The settings in `config.json` as plain values, for labels; empty if unreadable."""
    try:
        settings = json.loads((folder / "config.json").read_text())["settings"]
        return settings | {"agent": dict(settings.get("agent") or {})}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
