"""Checkpoints: the whole agent state on disk, atomically, bit for bit.

Orbax writes in the background, into a temporary folder that it renames once everything is on disk:
a process killed in the middle of a save leaves the previous checkpoints as they were. Kept are the
last two (seeds that save one after the other always have one in common) and the best one.
"""

import contextlib
import errno
import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rpgjax.agents.agent import AgentState
from rpgjax.training.settings import RunError, TrainSettings, difference, trained

HostState = dict[str, np.ndarray]  # a state's leaves by path, PRNG keys as their raw words


class CheckpointError(RunError):
    """A checkpoint that cannot be written, or cannot be used."""


class DamagedCheckpoint(CheckpointError):
    """A checkpoint whose files are incomplete or altered: an earlier one may still be good."""


class _LastTwoAndBest:
    """What orbax keeps. Its own best would be that of this process: it reads no scores back."""

    def __init__(self, best_of: Callable[[Sequence[int]], int | None]) -> None:
        self.best_of = best_of

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        updates = [checkpoint.step for checkpoint in checkpoints]
        kept = {*sorted(updates)[-2:], self.best_of(updates)}
        return [update in kept for update in updates]


class Checkpoints:
    """The checkpoints of one run (one seed), in one folder.

    Args:
        folder: made if missing. Leftovers of interrupted saves in it are removed when writing.
        settings: the run's. A checkpoint of something else that is trained is refused.
        write: False opens the folder for reading only.
    """

    def __init__(self, folder: Path, settings: TrainSettings, write: bool = True) -> None:
        import orbax.checkpoint as ocp  # a second to import: not before it is needed

        logging.getLogger("absl").setLevel(logging.ERROR)
        self.folder = folder.absolute()
        self.settings = settings
        self._ocp = ocp
        self._scores: dict[int, float | None] = {}  # of the updates that were asked for
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_LastTwoAndBest(self._best_of),
            cleanup_tmp_directories=write,
            read_only=not write,
            create=write,
        )
        with _explained("open", self.folder):
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_names=("state", "metadata")
            )
        if write:
            self._best_of(self.updates())  # read now: later orbax asks from a thread of its own

    def updates(self) -> list[int]:
        """The updates that have a finished checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, update: int, state: HostState, score: float | None) -> None:
        """Starts writing `state`; waits for the save before it, and raises what went wrong there.

        Args:
            update: how many updates led to this state.
            state: its leaves, not written to afterwards.
            score: the evaluation's mean return at this update, if there was one: the highest score
                is the best checkpoint.

        Raises:
            CheckpointError: this save or the previous one failed, for example on a full disk.
        """
        metadata = {
            "update": update,
            "trained": trained(self.settings),
            "score": score,
            "leaves": {k: [list(v.shape), str(v.dtype), _checksum(v)] for k, v in state.items()},
        }
        arrays = {k: v for k, v in state.items() if v.size}  # orbax refuses empty arrays
        items = self._ocp.args.Composite(
            state=self._ocp.args.PyTreeSave(arrays), metadata=self._ocp.args.JsonSave(metadata)
        )
        self.wait()
        self._scores[update] = score
        with _explained("write", self.folder):
            self._manager.save(update, args=items)

    def wait(self) -> None:
        """Blocks until the last save is on disk.

        Raises:
            CheckpointError: that save failed.
        """
        with _explained("write", self.folder):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def restore(self, update: int) -> HostState:
        """Reads the checkpoint of `update` back, verified against its checksums.

        Raises:
            DamagedCheckpoint: it is unreadable, incomplete or altered.
            CheckpointError: it belongs to a run with another configuration.
        """
        path = self.folder / str(update)
        try:
            metadata = self._metadata(update)
            leaves: dict[str, Any] = metadata["leaves"]
            as_numpy = self._ocp.RestoreArgs(restore_type=np.ndarray)
            arrays = {name: as_numpy for name, (shape, _, _) in leaves.items() if np.prod(shape)}
            items = self._ocp.args.PyTreeRestore(restore_args=arrays)
            state = dict(
                self._manager.restore(update, args=self._ocp.args.Composite(state=items))["state"]
            )
        except Exception as error:  # orbax and tensorstore raise many types
            raise DamagedCheckpoint(f"checkpoint {path} is damaged: {_brief(error)}") from error
        for name, (shape, dtype, checksum) in leaves.items():
            if not np.prod(shape):
                state[name] = np.zeros(shape, dtype)
            if name not in state or _checksum(state[name]) != checksum:
                raise DamagedCheckpoint(f"checkpoint {path} is damaged: {name} has changed on disk")
        if "trained" not in metadata:
            raise CheckpointError(f"checkpoint {path} is of an earlier version of rpgjax")
        if other := difference(self.settings, metadata["trained"]):
            raise CheckpointError(f"checkpoint {path} belongs to another configuration: {other}")
        return state

    def best(self) -> int | None:
        """The update of the checkpoint with the highest score; the last one if none has a score."""
        updates = self.updates()
        best = self._best_of(updates)
        return best if best is not None else max(updates, default=None)

    def _best_of(self, updates: Sequence[int]) -> int | None:
        scored = [(score, u) for u in updates if (score := self._score(u)) is not None]
        return max(scored)[1] if scored else None

    def _score(self, update: int) -> float | None:
        """As it is on disk: this process may not be the one that saved it."""
        if update not in self._scores:
            score = None
            with contextlib.suppress(Exception):  # a damaged one cannot be the best
                score = self._metadata(update)["score"]
            self._scores[update] = score
        return self._scores[update]

    def _metadata(self, update: int) -> dict[str, Any]:
        item = self._ocp.args.Composite(metadata=self._ocp.args.JsonRestore())
        return self._manager.restore(update, args=item)["metadata"]

    def forget_after(self, update: int) -> None:
        """Removes checkpoints later than `update`: a resumed run writes them again."""
        for later in self.updates():
            if later > update:
                self._manager.delete(later)

    def close(self) -> None:
        """Waits for what is being written, and lets go of the folder. `wait` is what raises."""
        with contextlib.suppress(Exception):
            self._manager.close()


def to_host(state: AgentState, seeds: int) -> list[HostState]:
    """Copies a state to the host, one dictionary of leaves per seed.

    The copies are the host's own: the device's buffers may be donated right after.
    """
    leaves = {
        jax.tree_util.keystr(path): np.array(_raw(leaf))
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    }
    if seeds == 1:
        return [leaves]
    return [
        {name: np.array(leaf[index]) for name, leaf in leaves.items()} for index in range(seeds)
    ]


def from_host(states: Sequence[HostState], abstract: AgentState) -> AgentState:
    """The inverse of `to_host`.

    Args:
        states: one per seed.
        abstract: the state's tree of `jax.ShapeDtypeStruct`, leading with (seed,) for several.

    Raises:
        CheckpointError: names, shapes or dtypes differ from `abstract`.
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(abstract)
    expected = {jax.tree_util.keystr(path): leaf for path, leaf in flat}
    if odd := sorted(set(expected) ^ set(states[0])):
        raise CheckpointError(
            f"the checkpoint belongs to another agent: only one of the two has {odd[0]}"
        )

    def leaf(name: str, want: jax.ShapeDtypeStruct) -> jax.Array:
        parts = [state[name] for state in states]
        value = parts[0] if len(parts) == 1 else np.stack(parts)
        is_key = is_key_dtype(want.dtype)
        raw = jax.eval_shape(jax.random.key_data, want) if is_key else want
        if value.shape != raw.shape or value.dtype != raw.dtype:
            raise CheckpointError(
                f"the checkpoint belongs to another agent: {name} is {value.dtype}{value.shape} "
                f"there, {raw.dtype}{raw.shape} here"
            )
        array = jax.device_put(value, may_alias=False)
        return jax.random.wrap_key_data(array, impl=_implementation(want)) if is_key else array

    return jax.tree.unflatten(treedef, [leaf(name, want) for name, want in expected.items()])


def is_key_dtype(dtype: Any) -> bool:
    """Whether `dtype` is that of a typed PRNG key."""
    return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _raw(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if is_key_dtype(leaf.dtype) else leaf


def _implementation(key: jax.ShapeDtypeStruct) -> Any:
    """The PRNG of an abstract key, which only concrete and traced keys can be asked for."""
    found: list[Any] = []
    jax.eval_shape(lambda traced: found.append(jax.random.key_impl(traced)), key)
    return found[0]


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def _brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextlib.contextmanager
def _explained(verb: str, folder: Path) -> Iterator[None]:
    """Turns what orbax raises into one line; a full disk says so."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise CheckpointError(f"no space left on device while writing {folder}") from error
        raise CheckpointError(f"cannot {verb} checkpoints in {folder}: {_brief(error)}") from error


def is_disk_full(error: BaseException) -> bool:
    """Whether `error` says that nothing more can be written: full disk, quota, file size limit."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    text = str(error)
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return any(f"os_error_code='{code}'" in text or f"Errno {code}]" in text for code in codes)
