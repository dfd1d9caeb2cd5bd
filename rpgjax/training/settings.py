"""What a training run is made of, as data: typed, hashable, the same after a trip through JSON."""

import dataclasses
import json
import typing
from dataclasses import dataclass
from typing import Any

from rpgjax.types import check_fields

# Fields that say how long to train and how often to look, not what is trained. A run may be resumed
# with other values, so they stay out of `trained`.
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


def trained(settings: TrainSettings) -> dict[str, Any]:
    """What is trained, as plain JSON values: algorithm, task, backend, seed and the fields of the config.

    Two runs with the same go through the same parameters, however long each is.
    """
    fields = {k: v for k, v in settings_to_json(settings).items() if k not in SCHEDULE}
    agent = fields.pop("agent") or {}
    return fields | {f"agent.{name}": value for name, value in agent.items()}


def difference(settings: TrainSettings, earlier: dict[str, Any]) -> str | None:
    """In what `settings` train something else than `earlier`, what `trained` once said; None: in nothing.

    A field that there was not then counts as at its default: a later version that adds one, or whose
    defaults are others, can go on with earlier runs.
    """
    now, added = trained(settings), {}
    if dataclasses.is_dataclass(settings.agent):
        added = {f"agent.{f.name}": f.default for f in dataclasses.fields(settings.agent)}
    for name, value in now.items():
        before = earlier.get(name, added.get(name))
        if _typed(before, None) != _typed(value, None):
            return f"{name} was {before}, and is {value}"
    gone = min(set(earlier) - set(now), default=None)
    return None if gone is None else f"{gone} was {earlier[gone]}, and is no more"
