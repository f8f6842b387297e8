"""The command `fastprompt doctor`: what is installed, what works here, and the fix for what does not."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

from fastprompt.framework import BACKENDS, declaration, is_installed
from fastprompt.launch.subprocesses import environment

from rich.console import Console
from rich.table import Table

PACKAGES = (
    *("fastprompt", "fastNLP", "datasets", "tokenizers", "safetensors", "numpy", "setuptools"),
    *(package for name in BACKENDS for package in declaration(name).packages),
)

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


def main(results: TextIO) -> int:
    """Status 1 where no framework works."""
    console = Console(file=results, markup=False, highlight=False)
    packages = Table("package", "version")
    for name, found in package_versions().items():
        packages.add_row(name, found or "not installed")
    console.print(packages)
    states = Table("framework", "state", "fix")
    probes = {name: probe(name) for name in BACKENDS}
    for name, found in probes.items():
        states.add_row(name, found["state"], found["fix"])
    console.print(states)
    return 0 if any(found["state"].startswith("works") for found in probes.values()) else 1
