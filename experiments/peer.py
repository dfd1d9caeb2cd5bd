"""Trainers in processes of their own: ours, or Brax's PPO in the environment that it needs."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import write

from rpgjax.training.bench import ROOT
from rpgjax.training.bench_sides import prepare_peer
from rpgjax.training.runs import origin

FOLDER = Path(__file__).parent
PINS = FOLDER / "bench" / "constraints-peer.txt"

Point = dict[str, Any]  # env_steps, return and seconds


def ppo(env: str, backend: str, seed: int) -> list[str]:
    """What starts Brax's PPO; installs it first."""
    python = prepare_peer(PINS, ROOT / ".venv-peer", print)
    return [str(python), str(FOLDER / "peer_ppo.py"), env, backend, str(seed)]


def evaluations(command: list[str], enough: Callable[[Point], bool], ours: bool) -> list[Point]:
    """Trains until `enough` says so of an evaluation, and kills the process then; nothing is cached.

    Args:
        command: prints evaluations as JSON: env_steps, return, seconds_not_counted.
        enough: whether to stop.
        ours: whether the process may import rpgjax.

    Returns:
        What it printed, with the seconds since the process began, less those not counted.
    """
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    environment.pop("PYTHONPATH", None)
    if ours:
        environment["PYTHONPATH"] = str(ROOT)
    began, points = time.perf_counter(), []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        for said in process.stdout or ():
            if not said.startswith("{"):
                continue
            point = json.loads(said)
            taken = time.perf_counter() - began - point.pop("seconds_not_counted")
            points.append(point | {"seconds": round(taken, 1)})
            print(
                f"{point['env_steps']:>11,} steps {taken:7.1f} s {point['return']:8.0f}", flush=True
            )
            if enough(points[-1]):
                break
        else:
            if status := process.wait():
                raise SystemExit(f"exit status {status} of {' '.join(command)}: nothing is kept")
    finally:
        process.kill()
        process.wait()
    if not points:
        raise SystemExit(f"no evaluation was printed: run {' '.join(command)}")
    return points


def keep(path: Path, points: list[Point], seed: int) -> None:
    """Writes a trainer's evaluations, and where they come from."""
    content = {"evaluations": points, "seed": seed} | origin()
    write(path, content, indent=1)
