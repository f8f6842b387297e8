"""PaddlePaddle: what is set before its import, what is set right after it, and what is asked of the machine.

Out of the box paddle 3 uses one CPU thread, asks the system for fresh memory for every large tensor, and on AMD runs
matrix products at a third of their speed. Together that made a training step of MiniLM five times slower.
"""

import ctypes
import os
import random
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)

_threads: int | None = None
_threads_were_set = False


def prepare() -> None:
    """Set what paddle reads when it is imported; harmless where it is imported already, and when called again."""
    global _threads, _threads_were_set
    if _threads is not None:
        return
    # Paddle's import sets the variable to 1 where it is unset, so afterwards it says nothing.
    value = "" if _is_imported() else os.environ.get("OMP_NUM_THREADS", "")
    _threads_were_set = value.isdigit()
    _threads = int(value) if _threads_were_set else _cpu_count()
    if _is_amd_with_avx2():
        # The MKL in paddle's wheel (2019) takes AMD for the oldest processor it knows; 5 names its AVX2 kernels.
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
    _keep_freed_memory()


def configure() -> None:
    """Set what needs paddle imported; `ops` calls it."""
    import paddle

    # With lazy views a transpose is free, but the concat or copy after it takes 20 times as long as a transpose.
    paddle.set_flags({"FLAGS_use_stride_kernel": False})
    paddle.base.core.set_num_threads(_threads)
    if not _threads_were_set:  # then paddle's import has written 1, which child processes would obey
        os.environ.pop("OMP_NUM_THREADS", None)


def _is_imported() -> bool:
    paddle = sys.modules.get("paddle")  # there, but empty, where the import hook of compat.py calls prepare
    return paddle is not None and not paddle.__spec__._initializing


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_amd_with_avx2() -> bool:
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    return "AuthenticAMD" in text and " avx2 " in text


def _keep_freed_memory() -> None:
    """Let malloc reuse large blocks: a fresh one costs a page fault every 4 KiB, 20 times an addition's own cost."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        for size in (2**30, 2**25):  # older glibc takes 32 MiB at most
            if mallopt(_M_MMAP_THRESHOLD, size):
                break
        mallopt(_M_TRIM_THRESHOLD, 2**30)


def version() -> str:
    import paddle

    return paddle.__version__


def seed(value: int) -> None:
    """Seed Python, NumPy and paddle (dropout draws from it)."""
    import numpy
    import paddle

    random.seed(value)
    numpy.random.seed(value % 2**32)
    paddle.seed(value)


def one_thread() -> AbstractContextManager[None]:
    """Within it a model answers; threads may do so at once here."""
    return nullcontext()


def has_gpu() -> bool:
    import paddle

    return paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0


def supports_bf16(device: str) -> bool:
    """Whether a frozen backbone can be in bf16 on `device`; paddle has no bf16 kernels for the CPU."""
    import paddle

    return device != "cpu" and has_gpu() and paddle.amp.is_bfloat16_supported()


def peak_device_memory_mb() -> float | None:
    """Peak memory of the GPU in MiB; None where the run was on the CPU."""
    import paddle

    return paddle.device.cuda.max_memory_allocated() / 2**20 if has_gpu() else None
