"""Commands find the server of their own directory, and never another's."""

import os
import subprocess
import sys
from pathlib import Path

from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.store.types import Document

SERVE_AND_DIE = """
import os, signal, sys
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
memory = Embedded(sys.argv[1])
server = Server(memory, "127.0.0.1:0", write_in_background=False)
server.start()
print(server.address, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def fill(data: Path, model: str) -> None:
    with Embedded(data, model=model) as memory:
        memory.upsert(Document("note", f"This stands in {data.name}."))


def serve_and_die(data: Path) -> str:
    """Serve a directory in a process that is killed, and return the address it had."""
    ran = subprocess.run([sys.executable, "-c", SERVE_AND_DIE, str(data)], capture_output=True, text=True, timeout=120)
    assert (data / "server.json").exists(), ran.stderr
    return ran.stdout.strip()


def delete(data: Path) -> None:
    command = [sys.executable, "-m", "memory3.cli", "delete", "note", "--data", str(data)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY3_")}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)


def test_a_killed_server_s_address_leads_to_no_other_directory(tmp_path: Path, random_model: str) -> None:
    """The server of one directory was killed, one of another directory took its port, and a delete meant for the first
    deleted in the second: any server that answered at the address in `server.json` was taken for the right one."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    for data in (mine, other):
        fill(data, random_model)
    address = serve_and_die(mine)
    with Embedded(other) as memory, Server(memory, address, write_in_background=False):
        delete(mine)
        assert memory.get("note") is not None
    with Embedded(mine) as memory:
        assert memory.get("note") is None


def test_a_running_server_is_found(tmp_path: Path, random_model: str) -> None:
    fill(tmp_path, random_model)
    with Embedded(tmp_path) as memory, Server(memory, write_in_background=False):
        delete(tmp_path)
        assert memory.get("note") is None
