"""Start a command on two machines: two network namespaces, each with an address of its own and a cable between them.

Usage: unshare --map-root-user --net python two_machines.py torch|paddle COMMAND ARGUMENT ...
       COMMAND is what the framework's launcher starts in one process on each.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADDRESSES = ("10.99.0.1", "10.99.0.2")
PORT = "29577"


@contextmanager
def machines() -> Iterator[list[list[str]]]:
    """Lay the cable; what stands before a command to run it on each machine. The second one is there with a process."""
    second = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        here = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{second.pid}/ns/net").readlink() == here:
            time.sleep(0.01)
        there = ["nsenter", "--target", str(second.pid), "--net"]
        run(["ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", str(second.pid)])
        for number, (machine, address) in enumerate(zip(([], there), ADDRESSES, strict=True)):
            run([*machine, "ip", "addr", "add", f"{address}/24", "dev", f"veth{number}"])
            for name in ("lo", f"veth{number}"):
                run([*machine, "ip", "link", "set", name, "up"])
        yield [[], there]
    finally:
        second.kill()


def run(command: list[str]) -> None:
    subprocess.run(command, check=True)


def launcher(framework: str, number: int) -> list[str]:
    if framework == "torch":
        module = ["torch.distributed.run", "--nproc_per_node", "1", "--nnodes", "2", "--node_rank", str(number)]
        return [sys.executable, "-m", *module, "--master_addr", ADDRESSES[0], "--master_port", PORT, "--no_python"]
    module = ["paddle.distributed.launch", "--nproc_per_node", "1", "--nnodes", "2", "--rank", str(number)]
    return [sys.executable, "-m", *module, "--master", f"{ADDRESSES[0]}:{PORT}", "--host", ADDRESSES[number]]


def main(framework: str, *command: str) -> int:
    with machines() as both:
        processes = []
        for number, machine in enumerate(both):
            environment = {**os.environ, "GLOO_SOCKET_IFNAME": f"veth{number}"}
            processes.append(subprocess.Popen([*machine, *launcher(framework, number), *command], env=environment))
        return max(abs(process.wait()) for process in processes)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
