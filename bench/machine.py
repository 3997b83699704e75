"""The line above every benchmark's figures: hardware, versions, commit. A figure without it means nothing."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "sentence-transformers", "faiss-cpu", "faiss-gpu", "lmdb", "grpcio", "numpy")


def machine_line() -> str:
    """The machine in one line of prose."""
    return "; ".join(machine().values())


def machine() -> dict[str, str]:
    """Hardware, threads, versions and commit, each ready to print."""
    return {
        "hardware": ", ".join(_hardware()),
        "threads": f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}",
        "load": f"load {os.getloadavg()[0]:.1f} at the start",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "versions": ", ".join([f"Python {platform.python_version()}", *_versions()]),
        "commit": f"commit {commit()}",
    }


def commit() -> str:
    """The short hash of the checkout, marked when tracked files differ from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    return f"{head} with changes" if _git("status", "--porcelain", "--untracked-files=no") else head


def _hardware() -> list[str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [_processor(), f"{usable} cores", f"{memory:.0f} GiB memory", *_accelerators()]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _accelerators() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str:
    try:
        ran = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return ran.stdout.strip()
