"""The processes that a benchmark compares: how they are asked, and what Brax's own trainers run in."""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from json import loads
from pathlib import Path
from typing import Any

# Brax's trainers crash on later jax; with tyro our tasks can be imported there.
PEER_REQUIREMENTS = ("jax<0.10", "brax==0.14.2", "tyro")

Ask = Callable[[str], dict[str, Any]]
Say = Callable[[str], None]


def prepare_peer(constraints: Path, venv: Path, say: Say) -> Path:
    """The Python that runs Brax's APG; installs it unless that was done with these very pins.

    Raises:
        ValueError: the environment could not be made; says what pip said last.
    """
    python, stamp = venv / "bin" / "python", venv / "constraints.sha256"
    digest = hashlib.sha256(constraints.read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == digest:
        return python
    say(f"installing Brax's own APG in {venv} (once) ...")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-input", *PEER_REQUIREMENTS]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        [*install, "--constraint", str(constraints)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
            errors = [line for line in said if line.startswith("ERROR")] or said
            raise ValueError(
                f"can't install Brax's APG in {venv} ({errors[-1]}); --skip-peer goes without it"
            )
    stamp.write_text(digest)
    return python


@contextmanager
def worker(name: str, command: list[str], environment: dict[str, str]) -> Iterator[Ask]:
    """A subprocess that answers each line with one JSON object, and is idle in between.

    It answers on the file descriptor that `BENCH_ANSWERS` names; libraries may print elsewhere.

    Raises:
        ValueError: from an `ask` that the subprocess did not survive; says its last line.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile("w+") as log, open(reading) as answers:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=(writing,),
            env=environment | {"BENCH_ANSWERS": str(writing)},
            text=True,
        )
        os.close(writing)

        def ask(request: str) -> dict[str, Any]:
            with suppress(BrokenPipeError):  # the missing answer tells
                print(request, file=process.stdin, flush=True)
            if line := answers.readline():
                return loads(line)
            process.wait()
            log.seek(0)
            said = log.read().strip().splitlines() or ["it said nothing"]
            raise ValueError(f"{name} stopped: {said[-1]}")

        try:
            yield ask
        finally:
            process.kill()
            with suppress(BrokenPipeError):  # a request that nobody read
                process.communicate()
