"""What a training run is made of, as data: typed, hashable, the same after a trip through JSON."""

import dataclasses
import hashlib
import json
import typing
from dataclasses import dataclass
from typing import Any

from rpgjax.types import check_fields

# Fields that say how long to train and how often to look, not what is trained. A run may be resumed
# with other values, so they stay out of `training_hash`.
SCHEDULE = ("updates", "eval_every", "eval_episodes", "checkpoint_every")


class RunError(Exception):
    """Something that stops a run and that its user can act on: one line, no traceback.

    Attributes:
        status: the exit status of a program that stops because of it.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class TrainSettings:
    """A training run. `rpgjax.presets.preset` makes one that works for a task."""

    algorithm: str
    env: str
    backend: str | None = None  # Brax physics backend; None for tasks that have none
    seed: int = 0
    updates: int = 340  # calls of `agent.update`
    eval_every: int = 20  # updates between evaluations
    eval_episodes: int = 64  # whole episodes in an evaluation, for each of the two policies
    checkpoint_every: int = 20  # updates between checkpoints
    agent: Any = None  # the algorithm's config dataclass; None for an agent of one's own

    def __post_init__(self) -> None:
        check_fields(self)
        for name in SCHEDULE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be at least 1")


def settings_to_json(settings: TrainSettings) -> dict[str, Any]:
    """`settings` as plain JSON values; the agent's config becomes an object of its own."""
    fields = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    if dataclasses.is_dataclass(settings.agent) and not isinstance(settings.agent, type):
        fields["agent"] = dataclasses.asdict(settings.agent)
    else:
        fields["agent"] = None
    return json.loads(json.dumps(fields, default=lambda number: number.item()))


def settings_from_json(fields: dict[str, Any], config_type: type | None) -> TrainSettings:
    """The inverse of `settings_to_json`.

    Args:
        fields: what `settings_to_json` made.
        config_type: the dataclass of the agent's config, or None for an agent of one's own.

    Raises:
        RunError: a field that this version does not know, or lacks.
    """
    agent = None
    try:
        if config_type is not None:
            hints = typing.get_type_hints(config_type)
            agent = config_type(**{k: _typed(v, hints.get(k)) for k, v in fields["agent"].items()})
            check_fields(agent)
        return TrainSettings(**{**fields, "agent": agent})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"config.json does not fit this version of rpgjax: {error}") from error


def _typed(value: Any, hint: Any) -> Any:
    """JSON has lists where configs have tuples; the rest survives as it is."""
    if isinstance(value, list):
        return tuple(_typed(item, None) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def training_hash(settings: TrainSettings) -> str:
    """A fingerprint of what is trained: algorithm, task, backend, seed and the agent's config.

    Two runs with the same fingerprint go through the same parameters, however long each is. Fields of
    the config at their default leave no trace in it: a later version that adds one can go on with
    earlier runs.
    """
    fields = {k: v for k, v in settings_to_json(settings).items() if k not in SCHEDULE}
    if fields["agent"] is not None:
        defaults = {field.name: field.default for field in dataclasses.fields(settings.agent)}
        hints = typing.get_type_hints(type(settings.agent))
        fields["agent"] = {
            k: _typed(v, hints[k])
            for k, v in fields["agent"].items()
            if _typed(v, None) != defaults[k]
        }
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
