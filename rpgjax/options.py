"""What each verb of the command line takes: a field is a flag, its comment the flag's help."""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """What `train` takes besides the settings and the agent's config."""

    env: str = "ant"  # the task; see `rpgjax list`
    backend: str | None = None  # the physics of a Brax task; the preset's if left out
    out: Path | None = None  # the run folder; a new one in runs/ if left out
    seeds: int = 1  # how many seeds, from --seed on, to train as one program
    x64: bool = False  # compute in float64
    tensorboard: bool = False  # also write TensorBoard event files
    replay: bool = True  # write replay.html and replay.png at the end


@dataclasses.dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run that was stopped or killed, bit for bit on a CPU."""

    run: tyro.conf.Positional[Path]  # the run folder
    updates: int | None = None  # a new goal, to train longer than planned
    tensorboard: bool = False  # also write TensorBoard event files
    replay: bool = True  # write replay.html and replay.png at the end


@dataclasses.dataclass(frozen=True)
class EvalOptions:
    """Evaluate a trained policy on whole fresh episodes, deterministic and sampled."""

    run: tyro.conf.Positional[Path]  # the run folder
    episodes: int = 64  # for each of the two policies
    seed: int = 0  # of the episodes
    which: Literal["best", "last"] = "best"  # checkpoint
    backend: str | None = None  # other physics than it was trained on
    json: Path | None = None  # also write the numbers to this file


@dataclasses.dataclass(frozen=True)
class RenderOptions:
    """Write a page with an episode to watch; it opens offline."""

    run: tyro.conf.Positional[Path]  # the run folder
    which: Literal["best", "last"] = "best"  # checkpoint
    out: Path | None = None  # the page, stills beside it; RUN/replay.html if left out


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """Draw learning curves: one run's, or several compared with intervals over seeds.

    One run whose policy has a latent also gets latents.png, beside it: where episodes go for each z.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders
    out: Path | None = None  # the PNG; RUN/learning_curve.png or comparison.png if left out


@dataclasses.dataclass(frozen=True)
class GradcheckOptions:
    """Measure the quality and the cost of a task's gradient, for horizons 1, 2, 4, ... steps."""

    env: str = "ant"  # the task; see `rpgjax list`
    backend: str | None = None  # its physics; the task's default if left out
    run: Path | None = None  # a run folder: its task, its physics, and its policy's actions
    horizon: int = 32  # the longest
    num_envs: int = 64  # in parallel
    seed: int = 0  # of resets and actions
    json: Path | None = None  # also write the rows to this file
    figure: Path | None = None  # a PNG; gradcheck-ENV-BACKEND.png or -RUN.png if left out


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """List tasks, their physics backends, and algorithms."""
