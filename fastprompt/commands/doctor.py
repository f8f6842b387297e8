"""The command `fastprompt doctor`: what is installed, what works here, and the fix for what does not; with --run what
kept a run from learning."""

import argparse
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

from fastprompt.commands.run_check import findings, read_run
from fastprompt.commands.terminal import make_console
from fastprompt.framework import BACKENDS, declaration, is_installed
from fastprompt.launch.subprocesses import environment

from rich.console import Console
from rich.table import Table

PACKAGES = (
    *("fastprompt", "fastNLP", "datasets", "tokenizers", "safetensors", "numpy", "setuptools"),
    *(package for name in BACKENDS for package in declaration(name).packages),
)

# the processor's flags, as Linux names them -> what they are
_BF16 = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}

# Runs in a process of its own for each framework: one gradient step on tensors of its driver, and what the device has.
_PROBE = """
import json, numpy
import fastprompt
from fastprompt.framework import collective, nn, ops, runtime
import fastNLP
layer = nn.Linear(2, 1)
nn.set_value(layer.weight, numpy.ones((1, 2), "float32"))
nn.set_value(layer.bias, numpy.zeros(1, "float32"))
loss = ops.mean(layer(ops.tensor(numpy.ones((1, 2), "float32"))))
correct = bool((ops.gradients(loss, [layer.weight])[0] == 1).all())
gpu = runtime.has_gpu()
print("PROBE " + json.dumps({
    "version": runtime.version(), "gradient": correct, "gpu": gpu, "missing": collective.missing(),
    "bf16": runtime.supports_bf16("cuda" if gpu else "cpu"),
}))
"""


def package_versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def probe(name: str, timeout: float = 600) -> dict[str, str]:
    """Try a framework: {"state", "fix"} and what it can do."""
    if not is_installed(name):
        return {"state": "not installed", "fix": f"pip install 'fastprompt[{name}]'"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], env=environment(name), capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return {
            "state": f"no answer in {timeout:.0f} s",
            "fix": "run again: a first compilation takes minutes",
        }
    line = next((line for line in done.stdout.splitlines() if line.startswith("PROBE ")), None)
    if line is None:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"state": "broken", "fix": last}
    found = json.loads(line.removeprefix("PROBE "))
    if not found["gradient"]:
        return {"state": "wrong gradients", "fix": f"reinstall: pip install --force-reinstall 'fastprompt[{name}]'"}
    features = ["GPU" if found["gpu"] else "CPU only", "bf16" if found["bf16"] else "no bf16"]
    features.append("one process" if found["missing"] else "several processes")
    fix = f"for several processes: {found['missing']}" if found["missing"] else ""
    return {"state": f"works ({found['version']}; {', '.join(features)})", "fix": fix}


def machine(processor: str, memory: str, group: str) -> dict[str, str]:
    """What the machine has: its cores, its memory, and the processor's instructions for bfloat16.

    Args:
        processor, memory: what Linux's /proc/cpuinfo and /proc/meminfo hold; "" where there are none.
        group: what /sys/fs/cgroup/memory.max holds, the container's limit in bytes; "" or "max" where there is none.
    """
    flags = next((line.split() for line in processor.splitlines() if line.startswith("flags")), [])
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in memory.splitlines())}
    unknown = "not known on this system"
    found = {"CPU cores": str(os.cpu_count() or unknown)}
    if sizes:
        found["memory"] = f"{sizes['MemTotal'] / 2**20:.1f} GiB, {sizes['MemAvailable'] / 2**20:.1f} GiB of it free"
    else:
        found["memory"] = unknown
    if group.strip().isdecimal():
        found["memory"] += f"; this container's limit is {int(group) / 2**30:.1f} GiB"
    fast = [text for flag, text in _BF16.items() if flag in flags]
    slow = "none: --bf16 on the CPU halves the backbone's memory and is no faster"
    found["bfloat16 on the CPU"] = unknown if not flags else ", ".join(fast) or slow
    return found


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", metavar="DIR", help="a training's --output_dir: say why it did not learn")


def main(run: str | None, results: TextIO) -> int:
    """Status 1 where no framework works, or the run shows a reason why it did not learn."""
    console = make_console(results)
    return _check_run(run, console) if run is not None else _check_machine(console)


def _check_run(folder: str, console: Console) -> int:
    found = findings(read_run(folder))
    if not found:
        console.print(f"{folder}: its files show no reason why it should not have learnt.", soft_wrap=True)
        return 0
    table = Table("finding", "what shows it", "fix", show_lines=True)
    for one in found:
        table.add_row(one.what, one.evidence, one.fix)
    console.print(table)
    return 1


def _check_machine(console: Console) -> int:
    packages = Table("package", "version")
    for name, found in package_versions().items():
        packages.add_row(name, found or "not installed")
    console.print(packages)
    here = Table("this machine", "")
    for row in machine(*map(_content, ("/proc/cpuinfo", "/proc/meminfo", "/sys/fs/cgroup/memory.max"))).items():
        here.add_row(*row)
    console.print(here)
    states = Table("framework", "state", "fix")
    probes = {name: probe(name) for name in BACKENDS}
    for name, found in probes.items():
        states.add_row(name, found["state"], found["fix"])
    console.print(states)
    return 0 if any(found["state"].startswith("works") for found in probes.values()) else 1
