"""`memory3 serve` can be stopped at any moment, also before it serves."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from memory3.cluster.embedded import Embedded
from memory3.store.types import Document

COMMAND = [sys.executable, "-m", "memory3.cli"]


@contextmanager
def downloading(data: Path) -> Iterator["subprocess.Popen[str]"]:
    """`memory3 serve` with an embedder of a hub that takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        environment = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}",
            "NO_PROXY": "127.0.0.1",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_ETAG_TIMEOUT": "600",
            "HF_HUB_DOWNLOAD_TIMEOUT": "600",
        }
        command = [*COMMAND, "serve", "--data", str(data), "--embedder", "nobody/nothing", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        hub.settimeout(120)
        try:
            with hub.accept()[0]:
                yield process
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_serve_can_be_stopped_while_it_downloads(
    tmp_path: Path, random_model: str, number: signal.Signals, code: int
) -> None:
    """Signals were only looked at once the models had been loaded: a download of minutes could not be stopped, and
    other commands on the directory meanwhile heard only that somebody serves no address and is to be closed."""
    with Embedded(tmp_path, model=random_model) as memory:
        memory.upsert(Document("note", "Mira keeps bees."))
    with downloading(tmp_path) as process:
        refused = subprocess.run(
            [*COMMAND, "get", "note", "--data", tmp_path], capture_output=True, text=True, timeout=60
        )
        assert refused.returncode == 1 and "it may still be starting" in refused.stderr
        started = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - started < 20
        assert process.returncode == code and not out
        assert "stopped before the models were loaded" in err and "Traceback" not in err
    with Embedded(tmp_path) as memory:
        assert memory.get("note") is not None and memory.check(full=True).ok


def test_serve_says_why_its_models_cannot_be_loaded(tmp_path: Path) -> None:
    command = [*COMMAND, "serve", "--data", str(tmp_path / "data"), "--embedder", str(tmp_path / "none")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1 and ran.stderr.startswith("memory3: cannot load the embedder")
    assert len(ran.stderr.strip().splitlines()) == 1
