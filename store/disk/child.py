"""A process of its own, for what may end one: damaged pages that LMDB is led by."""

import os
import subprocess
import sys
import threading

from .durable import disk_errors

_STDIN = 0


def start(module: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start `python -m module`; what it prints is piped to the caller, and it ends when its input does."""
    command = [sys.executable, "-m", module, *arguments]
    inherited = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with disk_errors(f"starting {command[0]}"):
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=inherited)


def end_with_the_caller() -> None:
    """In the process that was started: end when whoever started it has ended."""
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    # Not by sys.stdin, whose lock Python may want when the process ends.
    while os.read(_STDIN, 1):
        pass
    os._exit(1)
