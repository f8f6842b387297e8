"""Jittor: what is set before its import, and what is asked of the machine after it.

Left to itself jittor downloads oneDNN (and CUDA) at its first import, trusts any `nvcc` on the PATH, names its cache
after the git branch of the folder it is installed in, and takes Ctrl-C away from Python. `prepare` sees to all that.
"""

# ruff: noqa: SIM112  the variables are jittor's own

import ctypes
import functools
import os
import platform
import random
import shutil
import signal
import ssl
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from fastprompt.errors import BackendError

import numpy

WHEELS = ("onednn-cpu-gomp", "onednn-devel-cpu-gomp")
FIX = "pip install 'fastprompt[jittor]'"


TURN = threading.RLock()  # of the threads that touch jittor's graph

_prepared = False


def prepare() -> None:
    """Import jittor with everything set that makes it work offline, with or without a GPU; later calls do nothing.

    Raises:
        BackendError: a compiler or the oneDNN wheels are missing, or jittor has to be started again.
    """
    global _prepared
    if _prepared:
        return
    with _stdout_to_stderr(), _out_of_mpi():
        if "jittor" not in sys.modules or sys.modules["jittor"].__spec__._initializing:
            _set_environment()
        _prepared = True  # here: the import hook of compat.py calls prepare() again from within `import jittor`
        try:
            import jittor  # noqa: F401
        except SystemExit as stop:  # jittor rebuilt the helper that compiles, and cannot load it twice
            raise BackendError("jittor has renewed its cache of compiled code: run the same command again.") from stop
    configure()


def configure() -> None:
    """Give back to Python what `import jittor` took; nn.py calls it too, for a user's own `import jittor`."""
    import jittor_utils

    jittor_utils.LOG.log_silent = 0  # from here on C++ filters; this flag would drop Python's errors too
    # jittor's handlers end the process past any `finally`: at Ctrl-C, and when a child dies of a signal.
    for number in (signal.SIGINT, signal.SIGCHLD):
        with suppress(ValueError, TypeError):  # not the main thread, or a handler that is not Python's
            signal.signal(number, signal.getsignal(number))


def _set_environment() -> None:
    if int(numpy.__version__.split(".")[0]) > 1:  # no error otherwise: arrays come out of jittor as garbage
        raise BackendError("jittor misreads the arrays of NumPy 2 without an error: pip install 'numpy<2'.")
    if not shutil.which(os.environ.get("cc_path") or "g++"):
        raise BackendError("jittor compiles its operators and finds no C++ compiler: install g++ (apt install g++).")
    if not _cuda_usable():
        os.environ["nvcc_path"] = ""
        os.environ.pop("use_cuda", None)  # fastNLP sets it when CUDA_VISIBLE_DEVICES is set, even when that is empty
    os.environ.setdefault("cache_name", "default")  # else the git branch around the virtual environment
    if "torch" not in sys.modules:
        os.environ.setdefault("FIX_TORCH_ERROR", "0")  # else jittor imports torch to get on with it
    os.environ.setdefault("log_silent", "1")  # information and warnings; errors still come out
    _find_python_config()
    _ = numpy.finfo("float32"), numpy.finfo("float64")  # else NumPy warns that jittor flushes subnormals to zero
    https_context = ssl._create_default_https_context
    import jittor_utils

    ssl._create_default_https_context = https_context  # jittor_utils turns certificate checks off, process-wide
    jittor_utils.pool_initializer = functools.partial(_start_compiler_process, jittor_utils.pool_initializer)
    _link_onednn(Path(jittor_utils.home()) / ".cache" / "jittor" / "mkl")
    if not _is_compiled():
        print("fastprompt: compiling jittor, once for this machine (minutes) ...", file=sys.stderr, flush=True)
        # In a process of its own: where jittor renews the helper it compiles with, it ends the process.
        for _ in range(2):
            if not _is_compiled():
                subprocess.run([sys.executable, "-c", "import jittor"], check=False)


def _find_python_config() -> None:
    """Name the `python3.N-config` of this Python where jittor, which looks in /usr/bin and in the folder of the virtual
    environment, would find none."""
    name = f"python{sysconfig.get_python_version()}-config"
    if not Path("/usr/bin", name).exists():
        os.environ.setdefault("python_config_path", str(Path(sysconfig.get_config_var("BINDIR"), name)))


def _is_compiled() -> bool:
    import jittor_utils

    return any(Path(jittor_utils.cache_path).rglob("jittor_core*.so"))


def _start_compiler_process(initialize: Callable[[], None]) -> None:
    """Ctrl-C goes to the whole process group; a compiler process that dies of it would leave the pool's lock taken, and
    the main process would wait for that at its end for ever."""
    initialize()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _cuda_usable() -> bool:
    """A GPU that answers, and a CUDA toolkit that jittor 1.3 can compile with (with cuDNN, before CUDA 13)."""
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
            return False
    except OSError:
        return False
    if (Path(os.environ.get("JITTOR_HOME", Path.home())) / ".cache" / "jittor" / "jtcuda").is_dir():
        return True  # jittor's own CUDA, put there by `python -m jittor_utils.install_cuda`
    nvcc = shutil.which(os.environ.get("nvcc_path", "nvcc")) or shutil.which("/usr/local/cuda/bin/nvcc")
    if not nvcc:
        return False
    include = Path(nvcc).resolve().parent.parent / "include"
    cudnn = any((folder / "cudnn.h").exists() for folder in (include, Path("/usr/include")))
    header = include / "cuda_runtime_api.h"
    # "#define CUDART_VERSION  12020"; CUDA 13's headers want C++17, jittor compiles as C++14
    lines = header.read_text(errors="replace").splitlines() if header.exists() else []
    versions = [int(line.split()[-1]) for line in lines if line.startswith("#define CUDART_VERSION")]
    return cudnn and bool(versions) and versions[0] < 13000


def _link_onednn(mkl: Path) -> None:
    """Put oneDNN where jittor looks for its own download: links into the two wheels, in `dnnl_*/lib` and `/include`."""
    machine = platform.machine()
    home = mkl / ("dnnl_lnx_2.2.0_cpu_gomp" + ("" if machine == "x86_64" else f"_{machine}"))
    if all((home / name).is_file() for name in ("lib/libmkldnn.so", "include/mkldnn.hpp")):
        return  # is_file follows links: those into a virtual environment that is gone are made again
    try:
        files = [Path(file.locate()).resolve() for wheel in WHEELS for file in metadata.files(wheel) or ()]
    except metadata.PackageNotFoundError as missing:
        raise BackendError(f"jittor needs oneDNN from the wheel {missing.args[0]!r}: {FIX}.") from missing
    for file in files:
        if "include" in file.parts:  # .../include/oneapi/dnnl/dnnl.hpp
            link = home.joinpath(*file.parts[len(file.parts) - file.parts[::-1].index("include") - 1 :])
        elif ".so" in file.suffixes:
            link = home / "lib" / file.name
        else:
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.symlink_to(file)
        fresh.replace(link)  # in one move: another process may be reading


@contextmanager
def _out_of_mpi() -> Iterator[None]:
    """Hide from jittor that mpirun started this process: collective.py says why its own MPI is not taken."""
    os.environ.setdefault("use_mpi", "0")  # an mpicc on the PATH would be one more thing to compile
    hidden = os.environ.pop("OMPI_COMM_WORLD_SIZE", None)
    try:
        yield
    finally:
        if hidden is not None:
            os.environ["OMPI_COMM_WORLD_SIZE"] = hidden


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Standard output is for results; jittor and the compilers it starts write progress there."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def version() -> str:
    import jittor

    return jittor.__version__


def seed(value: int) -> None:
    """Seed Python, NumPy and jittor (dropout draws from it)."""
    import jittor

    jittor.sync_all()  # what was asked for before this draws from the numbers before this
    jittor.set_global_seed(value % 2**31)  # seeds the other two as well, but not as the other drivers do
    random.seed(value)
    numpy.random.seed(value % 2**32)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it a model answers, in one thread at a time, and its answers are computed at the end: the graph that
    jittor defers all computation to is one for the whole process, and threads that extend it at once corrupt it."""
    import jittor

    with TURN:
        yield
        jittor.sync_all()


def check_device(device: str) -> None:
    """Raises BackendError where jittor cannot compute on `device`."""
    if device not in ("cpu", "gpu", "cuda"):
        raise BackendError(f"jittor runs on one device, 'cpu' or 'cuda', not {device!r}.")
    if device != "cpu" and not has_gpu():
        raise BackendError("jittor finds no GPU it can use (driver, CUDA toolkit before 13, cuDNN): use device='cpu'.")


def use_device(device: str) -> None:
    """Compute on `device` from here on; jittor has one for everything.

    Raises:
        BackendError: jittor cannot use that device here.
    """
    import jittor

    check_device(device)
    jittor.flags.use_cuda = int(device != "cpu")


def has_gpu() -> bool:
    import jittor

    return bool(jittor.has_cuda)


def supports_bf16(device: str) -> bool:
    """Whether a frozen backbone can be in bf16 on `device`: jittor has no bf16 matrix product on a CPU."""
    return False


def peak_device_memory_mb() -> float | None:
    """Peak memory of the GPU in MiB; None where the run was on the CPU. Jittor keeps no peak: what is held now."""
    import jittor

    if not jittor.flags.use_cuda:
        return None
    return jittor.get_mem_info().total_cuda_used / 2**20
