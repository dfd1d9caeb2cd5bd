"""How fast an update is: next to Brax's own APG, and next to the physics inside it.

Each side lives in a subprocess of its own, compiles once, and then times one block of updates
whenever it is asked; while one works the other waits on its pipe. The sides take turns, so that
whatever else the machine does falls on both, and ratios are taken within a round.
"""

import os
import platform
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from json import dumps
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from rpgjax.envs.quiet import quiet_brax
from rpgjax.training.bench_sides import Ask, Say, prepare_peer, worker
from rpgjax.training.metrics import check_can_write

ROOT = Path(__file__).resolve().parents[2]
SIDES = ROOT / "experiments" / "bench"  # both sides' scripts, and the peer's pins
RATIO_TARGET = 1.0  # steps per second of our full RFO update over those of Brax's plain APG
OTHER_TARGET = 0.25  # the part of our update that is not physics with its gradient
WARM_UP = 2  # blocks: Brax's second epoch compiles again, for the layout its first one returned

Versions = dict[str, dict[str, str]]  # by side, by package


@dataclass(frozen=True)
class Workload:
    """A timed block: `updates_per_block` updates of `num_envs` x `horizon` environment steps."""

    env: str = "ant"
    backend: str = "spring"
    num_envs: int = 64
    horizon: int = 32
    updates_per_block: int = 4


@dataclass(frozen=True)
class Round:
    """One turn of each side. Seconds are per update; what was not run is None."""

    ours_steps_per_second: float
    apg_steps_per_second: float | None
    ratio: float | None  # ours / APG
    update_seconds: float
    physics_seconds: float
    stock_physics_seconds: float | None
    physics_share: float  # of our update
    stock_physics_share: float | None  # of our update, were its physics Brax's own


@dataclass(frozen=True)
class BenchResult:
    """What was measured. `median` holds each number's median over the rounds."""

    workload: Workload
    rounds: list[Round]
    median: Round
    compile_seconds: dict[str, float]  # by block, persistent cache off
    versions: Versions
    machine: dict[str, Any]


def main(
    json: Path | None = None,
    env: str = "ant",
    backend: str = "spring",
    num_envs: int = 64,
    horizon: int = 32,
    rounds: int = 3,
    skip_peer: bool = False,
    stock: bool = False,
    skip_world_model: bool = False,
) -> None:
    """Times the full RFO update against Brax's APG, the physics inside it, and RPG's world model.

    Args:
        json: also write every number to this file.
        env: a Brax task.
        backend: its physics.
        num_envs: environments stepped in parallel, on both sides.
        horizon: environment steps per update, on both sides.
        rounds: how often the sides take turns.
        skip_peer: leave Brax's APG out (its environment is then not needed).
        stock: also time Brax's own physics with its gradient (a minute more of compiling).
        skip_world_model: leave RPG's world model out.

    Raises:
        ValueError: an argument is wrong, or a side could not be started.
    """
    if min(num_envs, horizon, rounds) < 1:
        raise ValueError("num_envs, horizon and rounds must be at least 1")
    check_can_write(json)
    console = Console()
    workload = Workload(env, backend, num_envs, horizon)
    result = measure(workload, rounds, skip_peer, stock, console.print)
    numbers = to_json(result)

    def keep() -> None:
        if json is not None:
            json.write_text(dumps(numbers, indent=2) + "\n")

    keep()
    report(result, console)
    if not skip_world_model:
        with quiet_brax():
            from rpgjax.training import bench_world_model

        found = bench_world_model.measure(rounds, print)
        numbers["world_model"] = [one._asdict() for one in found]
        keep()
        print(*bench_world_model.lines(found), sep="\n")


def measure(workload: Workload, rounds: int, skip_peer: bool, stock: bool, say: Say) -> BenchResult:
    """Starts the sides, compiles, and lets them take turns."""
    ours_script, peer_script = SIDES / "ours_rfo.py", SIDES / "peer_apg.py"
    if not ours_script.is_file():
        raise ValueError(f"no {ours_script}: bench needs a checkout of the repository")
    machine = {
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load_average_before": os.getloadavg()[0],
    }
    # Compile times are cold on both sides; the peer's pins are for the CPU.
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    environment.setdefault("JAX_PLATFORMS", "cpu")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(workload).items()]
    with ExitStack() as sides:
        ours_command = [sys.executable, str(ours_script), *flags]
        path = os.pathsep.join([str(ROOT), *sys.path])
        ours = sides.enter_context(
            worker("rpgjax", ours_command, environment | {"PYTHONPATH": path})
        )
        versions = {"ours": ours("hello")["versions"]}  # a wrong task fails before any installing
        blocks = {"update": ours, "physics": ours} | ({"stock": ours} if stock else {})
        if not skip_peer:
            python = prepare_peer(SIDES / "constraints-peer.txt", ROOT / ".venv-peer", say)
            environment.pop("PYTHONPATH", None)  # packages of our side would shadow the peer's
            peer_command = [str(python), str(peer_script), *flags]
            apg = sides.enter_context(worker("Brax's APG", peer_command, environment))
            versions["apg"] = apg("hello")["versions"]
            blocks = {"apg": apg} | blocks
        warm_up, timed = take_turns(blocks, rounds, say)
    return summarise(workload, warm_up, timed, versions, machine)


def take_turns(
    blocks: dict[str, Ask], rounds: int, say: Say
) -> tuple[dict[str, list[float]], list[dict[str, float]]]:
    """Warms every block up, then asks for each once per round, in the same order.

    Returns:
        Seconds of the warm-up by block, and of each round by block.
    """
    warm_up, timed = {}, []
    for name, ask in blocks.items():
        say(f"compiling {name} ...")
        warm_up[name] = [seconds(name, ask) for _ in range(WARM_UP)]
    for index in range(rounds):
        timed.append({name: seconds(name, ask) for name, ask in blocks.items()})
        say(f"round {index + 1}: " + ", ".join(f"{k} {v:.2f} s" for k, v in timed[-1].items()))
    return warm_up, timed


def seconds(name: str, ask: Ask) -> float:
    """One block's seconds. Raises ValueError where its numbers broke: they would time nonsense."""
    answer = ask(name)
    if not answer["finite"]:
        raise ValueError(f"{name} computed numbers that are not finite")
    return answer["seconds"]


def summarise(
    workload: Workload,
    warm_up: dict[str, list[float]],
    timed: list[dict[str, float]],
    versions: Versions,
    machine: dict[str, Any],
) -> BenchResult:
    """The result from the blocks' seconds by name, one dictionary a round.

    Compiling is what the warm-up took beyond the median timed block, the same on both sides.
    """
    rounds = [one_round(workload, one) for one in timed]

    def middle(name: str) -> Any:
        values = [getattr(one, name) for one in rounds]
        return None if None in values else median(values)

    usual = {name: median(one[name] for one in timed) for name in warm_up}
    return BenchResult(
        workload=workload,
        rounds=rounds,
        median=Round(*(middle(field.name) for field in fields(Round))),
        compile_seconds={k: max(0.0, sum(v) - len(v) * usual[k]) for k, v in warm_up.items()},
        versions=versions,
        machine=machine,
    )


def one_round(workload: Workload, seconds: dict[str, float]) -> Round:
    """One round's blocks ("update", "physics", perhaps "apg", "stock") to rates and shares."""
    steps = workload.updates_per_block * workload.num_envs * workload.horizon
    update, physics = seconds["update"], seconds["physics"]
    apg, stock = seconds.get("apg"), seconds.get("stock")
    return Round(
        ours_steps_per_second=steps / update,
        apg_steps_per_second=apg and steps / apg,
        ratio=apg and apg / update,
        update_seconds=update / workload.updates_per_block,
        physics_seconds=physics / workload.updates_per_block,
        stock_physics_seconds=stock and stock / workload.updates_per_block,
        physics_share=physics / update,
        stock_physics_share=stock and stock / (stock + max(0.0, update - physics)),
    )


def to_json(result: BenchResult) -> dict[str, Any]:
    """One flat object: the workload, the medians, and the rest by name."""
    flat = asdict(result)
    return flat.pop("workload") | flat.pop("median") | flat


def report(result: BenchResult, console: Console) -> None:
    """Prints the result for people."""
    work, middle = result.workload, result.median
    table = Table(
        title=f"{work.env} ({work.backend}), {work.num_envs} environments, "
        f"horizon {work.horizon}, {result.machine['cores']} cores"
    )
    table.add_column("median of an update")
    for column in ("seconds", "steps/s", "compile s"):
        table.add_column(column, justify="right")
    steps = work.num_envs * work.horizon
    rows = {
        "update": ("RFO, everything included", steps / middle.ours_steps_per_second),
        "apg": ("Brax's APG", steps / (middle.apg_steps_per_second or float("inf"))),
        "physics": ("our physics and its gradient", middle.physics_seconds),
        "stock": ("Brax's physics and its gradient", middle.stock_physics_seconds),
    }
    for name, (label, took) in rows.items():
        if took:
            compiling = f"{result.compile_seconds[name]:.1f}"
            table.add_row(label, f"{took:.3f}", f"{steps / took:,.0f}", compiling)
    console.print(table)
    for line in verdicts(result):
        console.print(line, highlight=False, soft_wrap=True)


def verdicts(result: BenchResult) -> list[str]:
    """One line per target, each beginning with PASS or MISS."""

    def judge(passed: bool) -> str:
        return "PASS" if passed else "MISS"

    middle, lines = result.median, []
    if middle.ratio is not None:
        each = ", ".join(f"{one.ratio:.2f}" for one in result.rounds)
        lines.append(
            f"{judge(middle.ratio >= RATIO_TARGET)}: {middle.ratio:.2f} times the steps per second "
            f"of Brax's APG (rounds: {each}; target {RATIO_TARGET:g}, next {2 * RATIO_TARGET:g})"
        )
    other = 1.0 - middle.physics_share
    lines.append(
        f"{judge(other <= OTHER_TARGET)}: {other:.0%} of the update is not physics and its "
        f"gradient (target at most {OTHER_TARGET:.0%})"
    )
    if middle.stock_physics_share is not None:
        lines.append(f"      {1.0 - middle.stock_physics_share:.0%} were the physics Brax's own")
    return lines
