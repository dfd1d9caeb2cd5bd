"""What RPG's update is on a GPU: the kernels that it launches and the bytes that they move.

pip install -c constraints.txt "jax[cuda12]"        (or cuda13; no GPU is needed)
JAX_PLATFORMS=cpu python experiments/bench/gpu_program.py [--seeds 1 8] [--json FILE]

The program that `rpgjax.training.bench_world_model` times is compiled for an H200, without having one, and
its kernels are counted, those of loops as often as loops go round. Bytes are what kernels read and write,
at most: a slice of an array counts as all of it, and what stays in the cache is counted again.
"""

import argparse
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Choosing the fastest of several products takes a device.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from rpgjax.agents import rpg
from rpgjax.envs.registry import make
from rpgjax.training.bench_world_model import CALL, ENV, PAPER, SEEDS
from rpgjax.training.metrics import write_json
from rpgjax.training.runs import origin

BANDWIDTH = 4.8e12  # bytes/s, an H200's
H200 = f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {BANDWIDTH:.0f}
  l2_cache_size: 62914560
  clock_rate_ghz: 1.98
  device_memory_size: 150000000000
  cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "NVIDIA H200"
"""
KERNELS = ("fusion", "custom-call", "copy", "sort", "scatter")
# Not s8: the room that products work in is no traffic.
BYTES = {"pred": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}


class Kernel(NamedTuple):
    """A kernel of a compiled program."""

    times: int  # it runs in a call
    bytes: int  # that it reads and writes, each time


def compiled(seeds: int) -> str:
    """The text of the update of so many seeds as one program, for an H200."""
    topology = topologies.get_topology_desc(platform="cuda", target_config=H200, topology="1x1x1")
    mesh = topologies.make_mesh(topology, (1,), ("device",))
    there = NamedSharding(mesh, PartitionSpec())
    agent = rpg(make(ENV), PAPER)
    keys = jax.eval_shape(lambda: jax.vmap(jax.random.key)(jnp.arange(seeds)))
    state = jax.eval_shape(jax.vmap(agent.init), keys)
    # One seed alone is a program without the axis. Not `over_seeds`: it would ask the CPU that compiles.
    drop, update = (1, agent.update) if seeds == 1 else (0, jax.vmap(agent.update))
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape[drop:], x.dtype, sharding=there), state
    )
    return jax.jit(update, donate_argnums=0).lower(state).compile().as_text()


def kernels(text: str) -> list[Kernel]:
    """What a program's text launches."""
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        if found := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = found[2]
            bodies[name] = []
            entry = name if found[1] else entry
        elif line.startswith("  "):
            bodies.get(name, []).append(line)

    def walk(body: str, times: int) -> Iterator[Kernel]:
        sizes: dict[str, int] = {}
        for line in bodies[body]:
            found = re.match(r"\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([\w\-]+)\(([^)]*)", line)
            if found is None:
                continue
            name, shape, kind, operands = found.groups()
            sizes[name] = size(shape)
            if kind in KERNELS:
                read = sum(sizes.get(one, 0) for one in re.findall(r"%([\w.\-]+)", operands))
                yield Kernel(times, read + sizes[name])
            elif kind == "while":
                turns = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                inner = re.search(r"body=%([\w.\-]+)", line)[1]
                yield from walk(inner, times * (int(turns[1]) if turns else 1))
            elif kind == "conditional":
                branches = [list(walk(one, times)) for one in branch_names(line)]
                yield from max(branches, key=lambda found: sum(one.times for one in found))
            elif kind == "call":
                yield from walk(re.search(r"to_apply=%([\w.\-]+)", line)[1], times)

    return list(walk(entry, 1))


def branch_names(line: str) -> list[str]:
    """The computations that a conditional chooses from."""
    if several := re.search(r"branch_computations=\{([^}]*)\}", line):
        return re.findall(r"%([\w.\-]+)", several[1])
    return re.findall(r"(?:true|false)_computation=%([\w.\-]+)", line)


def size(shape: str) -> int:
    """Bytes of an array's or a tuple's text."""
    total = 0
    for kind, dimensions in re.findall(r"(\w+)\[([\d,]*)\]", shape):
        count = BYTES.get(kind, 0)
        for one in filter(None, dimensions.split(",")):
            count *= int(one)
        total += count
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, SEEDS])
    parser.add_argument("--json", type=Path, help="where the counts go")
    arguments = parser.parse_args()
    rows = []
    for seeds in arguments.seeds:
        began = time.perf_counter()
        found = kernels(compiled(seeds))
        launched = sum(one.times for one in found) / CALL
        moved = sum(one.times * one.bytes for one in found) / CALL
        rows.append({"seeds": seeds, "kernels": launched, "bytes": moved})
        print(
            f"{seeds} seed{'s' if seeds > 1 else ''}: {launched:.0f} kernels an update, at most"
            f" {moved / 1e9:.1f} GB, {1e3 * moved / BANDWIDTH:.2f} ms of an H200's memory"
            f" (compiled in {time.perf_counter() - began:.0f} s)",
            flush=True,
        )
    if arguments.json:
        write_json(arguments.json, origin() | {"rows": rows})


if __name__ == "__main__":
    main()
