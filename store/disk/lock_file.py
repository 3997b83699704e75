"""One opener to a data directory, and word of where it is served."""

import errno
import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from ..errors import DirectoryInUse
from .durable import disk_errors, remove_file, write_file

_LOCK = "lock"
_SERVER = "server.json"
_DIGITS_MAX = 9


class DirectoryLock:
    """The exclusive lock of a data directory, held until `release` or the end of the process.

    Its file counts the openings since the last release: `unreleased` is how many processes before this one, one after
    the other, have ended without it.

    Raises:
        DirectoryInUse: another opener holds it; names the address where it serves, if it does.
    """

    def __init__(self, directory: Path) -> None:
        self._server = directory / _SERVER
        with disk_errors(f"opening {directory / _LOCK}"):
            self._descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise _in_use(directory) from None
            raise
        self._published: int | None = None
        self.unreleased = self._read()
        self._write(self.unreleased + 1)
        # Whoever wrote this is gone, since the lock was free.
        remove_file(self._server)

    def publish(self, address: str) -> None:
        """Tell others that this directory is served at `address` ("host:port"), as long as this process lives."""
        server = {"address": address, "pid": os.getpid(), "started_at": time.time()}
        write_file(self._server, json.dumps(server).encode())
        self._let_go()
        with disk_errors(f"locking {self._server}"):
            self._published = os.open(self._server, os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(self._published, fcntl.LOCK_EX)

    def begin_anew(self) -> None:
        """Count this opening as the first one."""
        self._write(1)

    def release(self) -> None:
        self._write(0)
        remove_file(self._server)
        self._let_go()
        os.close(self._descriptor)

    def _read(self) -> int:
        digits = os.pread(self._descriptor, _DIGITS_MAX, 0)
        return int(digits) if digits.isdigit() else 0

    def _write(self, openings: int) -> None:
        # Neither synced nor insisted on: it is about processes that end, and a full disk is to be opened too.
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            if openings:
                os.pwrite(self._descriptor, b"%d" % openings, 0)

    def _let_go(self) -> None:
        if self._published is not None:
            os.close(self._published)
            self._published = None


def server_address(directory: Path) -> str | None:
    """Return where the directory is served; None when it is not, though a killed server may have left its address."""
    try:
        with open(directory / _SERVER, "rb") as file:
            if not _is_locked(file.fileno()):
                return None
            return str(json.loads(file.read())["address"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_locked(descriptor: int) -> bool:
    # Shared, so that two who look at the same time do not take each other for the server.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _in_use(directory: Path) -> DirectoryInUse:
    address = server_address(directory)
    if address is None:
        return DirectoryInUse(
            f"data directory {directory} is in use by a process that serves no address; "
            "if that is a server it may still be starting: wait until it serves, or close it first"
        )
    return DirectoryInUse(f"data directory {directory} is served at {address}; connect to {address} instead", address)
