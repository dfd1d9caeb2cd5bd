"""From settings to the objects that they name: what `launch` builds before it trains."""

import dataclasses
from typing import Any

from brax.envs import Env

from rpgjax.agents.agent import Agent
from rpgjax.training.settings import RunError, TrainSettings


class UsageError(RunError, ValueError):
    """What was asked for does not exist or does not fit together: exit status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=2)


def resolve(
    settings: TrainSettings | str,
    env: Env | str | None,
    backend: str | None,
    changes: dict[str, Any],
) -> TrainSettings:
    """Complete settings from a name or from settings, with `changes` to either level of fields."""
    from rpgjax.presets import preset

    if env is not None and not isinstance(env, (Env, str)):
        raise ValueError(f"env has to be a task's name or a brax.envs.Env, not {env!r}")
    if isinstance(env, Env) and backend is not None:
        raise ValueError("backend is a named task's; an env object brings its own physics")
    name = type(env).__name__ if isinstance(env, Env) else env
    if isinstance(settings, str):
        if name is None:
            raise ValueError("train needs a task: env='hopper', or an env object")
        settings = preset(settings, name, backend)
    elif name is not None or backend is not None:
        settings = dataclasses.replace(
            settings, env=name or settings.env, backend=backend or settings.backend
        )
    if isinstance(env, Env):
        settings = dataclasses.replace(settings, backend=None)
    ours = {field.name for field in dataclasses.fields(settings)}
    agent = {k: v for k, v in changes.items() if k not in ours}
    rest = {k: v for k, v in changes.items() if k in ours}
    if agent:
        rest["agent"] = dataclasses.replace(settings.agent, **agent)
    return dataclasses.replace(settings, **rest)


def make_env(settings: TrainSettings) -> Env:
    """The task that settings name.

    Raises:
        ValueError: an unknown name or backend.
    """
    from rpgjax.envs.registry import make

    try:
        return make(settings.env, settings.backend)
    except ValueError as error:
        raise UsageError(str(error)) from error


def make_agent(settings: TrainSettings, env: Env) -> Agent:
    """The agent that settings describe."""
    from rpgjax.agents import AGENTS

    if settings.algorithm not in AGENTS:
        known = ", ".join(AGENTS)
        raise UsageError(f"unknown algorithm {settings.algorithm!r}: choose from {known}")
    try:
        return AGENTS[settings.algorithm][1](env, settings.agent)
    except ValueError as error:
        raise UsageError(str(error)) from error


def episode_length_of(settings: TrainSettings) -> int:
    """The agent's episode length."""
    return int(getattr(settings.agent, "episode_length", 1000))
