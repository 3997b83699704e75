"""The processes of a run, as the one that starts them sees them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WORKER = Path(__file__).resolve().parent / "worker.py"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Bodies over 128 KB otherwise cost malloc an mmap each (docs/wire.md); for all stores alike.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


class Failed(Exception):
    """A store's process ended with an error."""


class Worker:
    """A process of `bench/peers/worker.py` and what it says."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process, self._log = process, log
        self.pid = process.pid

    def lines(self, may_end: bool = False) -> Iterator[dict[str, Any]]:
        """What it says, until it ends.

        Raises:
            Failed: it ended with an error, unless it `may_end`.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # what a library prints
            if not isinstance(said, dict):
                continue
            if "failed" in said:
                note(said["trace"])
                raise Failed(said["failed"])
            yield said
        if self._process.wait() and not may_end:
            words = self._log.read_text(errors="replace")[-1_000:].strip()
            raise Failed(f"the process ended with {self._process.returncode}: {words or 'no last words'}")

    def first(self) -> dict[str, Any]:
        """The first that it says.

        Raises:
            Failed: it ended without a word, or with an error.
        """
        for said in self.lines():
            return said
        raise Failed("the process ended without an answer")

    def end(self) -> None:
        """Let it end by itself, and else end it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def worker(mode: str, given: dict[str, Any], log: Path) -> Iterator[Worker]:
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, str(WORKER), mode, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | ENVIRONMENT,
        )
        started = Worker(process, log)
        # One that hangs must not keep the others from their turn.
        watchdog = threading.Timer(given["limit_s"], process.kill)
        watchdog.start()
        try:
            yield started
        finally:
            watchdog.cancel()
            started.end()


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
