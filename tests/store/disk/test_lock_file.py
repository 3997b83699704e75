"""One process at a time has a directory, and tells the others where it serves, as long as it lives."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from memory3.store.directory import DataDirectory
from memory3.store.disk.lock_file import DirectoryLock, server_address
from memory3.store.errors import DirectoryInUse

OPEN_ELSEWHERE = """
import sys
from memory3.store.directory import DataDirectory
from memory3.store.errors import DirectoryInUse
try:
    DataDirectory.open(sys.argv[1]).close()
    print("opened")
except DirectoryInUse as error:
    print(error.address, error)
"""

SERVE_AND_DIE = """
import os, signal, sys
from memory3.store.directory import DataDirectory
directory = DataDirectory.open(sys.argv[1])
directory.publish("localhost:1")
os.kill(os.getpid(), signal.SIGKILL)
"""


def python(script: str, path: Path) -> str:
    return subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60).stdout


def test_a_second_opener_is_told_where_it_is_served(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as directory:
        assert python(OPEN_ELSEWHERE, tmp_path).startswith("None data directory")
        directory.publish("localhost:7000")
        assert "localhost:7000 data directory" in python(OPEN_ELSEWHERE, tmp_path)
        assert "is served at localhost:7000" in python(OPEN_ELSEWHERE, tmp_path)
        with pytest.raises(DirectoryInUse) as caught:
            DataDirectory.open(tmp_path)
        assert caught.value.address == "localhost:7000"
        server = json.loads((tmp_path / "server.json").read_text())
        assert server["pid"] == os.getpid()
        assert server["started_at"] > 0
    assert not (tmp_path / "server.json").exists()
    assert python(OPEN_ELSEWHERE, tmp_path) == "opened\n"


def test_what_a_killed_server_left_is_ignored(tmp_path: Path) -> None:
    python(SERVE_AND_DIE, tmp_path)
    assert (tmp_path / "server.json").exists()
    with DataDirectory.open(tmp_path):
        assert not (tmp_path / "server.json").exists()
        assert python(OPEN_ELSEWHERE, tmp_path).startswith("None ")


def test_a_server_file_counts_only_while_its_writer_lives(tmp_path: Path) -> None:
    """A killed server left its address, which was believed although another directory's server answers there now;
    also by an opener that found the directory in use by a process which had just locked it and served nothing."""
    python(SERVE_AND_DIE, tmp_path)
    left = (tmp_path / "server.json").read_bytes()
    assert server_address(tmp_path) is None
    with DataDirectory.open(tmp_path) as directory:
        (tmp_path / "server.json").write_bytes(left)
        with pytest.raises(DirectoryInUse) as caught:
            DataDirectory.open(tmp_path)
        assert caught.value.address is None
        for address in ("localhost:7000", "localhost:7001"):
            directory.publish(address)
            assert server_address(tmp_path) == address
    assert server_address(tmp_path) is None


def test_looking_for_a_server_keeps_nobody_out(tmp_path: Path) -> None:
    python(SERVE_AND_DIE, tmp_path)
    with open(tmp_path / "server.json", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert server_address(tmp_path) is None
        with DataDirectory.open(tmp_path) as directory:
            directory.publish("localhost:7000")
            assert server_address(tmp_path) == "localhost:7000"


def test_a_damaged_server_file_does_not_hide_that_the_directory_is_in_use(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path):
        for content in ("", "[]", '{"pid": 1}', "\xff"):
            (tmp_path / "server.json").write_text(content)
            with pytest.raises(DirectoryInUse) as caught:
                DataDirectory.open(tmp_path)
            assert caught.value.address is None


def test_openings_that_did_not_end_well_are_counted(tmp_path: Path) -> None:
    unreleased = []
    for _ in range(3):
        lock = DirectoryLock(tmp_path)
        unreleased.append(lock.unreleased)
        # As the kernel does when a process ends.
        os.close(lock._descriptor)
    assert unreleased == [0, 1, 2]
    lock = DirectoryLock(tmp_path)
    lock.begin_anew()
    os.close(lock._descriptor)
    lock = DirectoryLock(tmp_path)
    assert lock.unreleased == 1
    lock.release()
    assert DirectoryLock(tmp_path).unreleased == 0


@pytest.mark.parametrize("content", [b"garbage", b"\xff" * 40, b"-3"])
def test_what_is_no_number_of_openings_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    lock = DirectoryLock(tmp_path)
    assert lock.unreleased == 0
    lock.release()
    assert (tmp_path / "lock").read_bytes() == b""
