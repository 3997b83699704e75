"""Every error that Memory3 raises to its users.

    Memory3Error
    ├── InvalidArgument       the caller's input cannot be used; nothing was changed
    ├── NotFound              the named thing does not exist
    ├── AlreadyExists         a thing of this name exists with other settings
    ├── Aborted               another change came first; read again and repeat
    ├── FailedPrecondition    the system is in a state that forbids the call
    │   ├── DirectoryInUse        another process serves this data directory
    │   ├── UnsupportedFormat     the directory was written in another format version
    │   └── FingerprintMismatch   key-values of one model offered to another
    ├── ResourceExhausted     a limit, a quota or the disk is full
    ├── Corrupted             stored bytes fail their checksum; never served
    ├── DeadlineExceeded      the caller's time ran out
    ├── Cancelled             the caller went away
    └── Unavailable           closed, stopping or out of reach; may be tried again

Each maps to one gRPC status code (`wire/status.py`), so a remote caller catches the same class.
"""


class Memory3Error(Exception):
    """The root of all errors raised by Memory3."""


class InvalidArgument(Memory3Error, ValueError):
    """The caller's input cannot be used; nothing was changed."""


class NotFound(Memory3Error, LookupError):
    """The named document, collection or memory does not exist."""


class AlreadyExists(Memory3Error):
    """A thing of this name exists with other settings."""


class Aborted(Memory3Error):
    """Another change came first; read again and repeat."""


class FailedPrecondition(Memory3Error):
    """The system is in a state that forbids the call."""


class DirectoryInUse(FailedPrecondition):
    """Another process serves this data directory.

    Attributes:
        address: `host:port` of that process's server, or None when it serves none.
    """

    def __init__(self, message: str, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


class UnsupportedFormat(FailedPrecondition):
    """The data directory was written in a format version that this release cannot read."""


class FingerprintMismatch(FailedPrecondition):
    """Key-values of one model were offered to, or asked for by, another."""


class ResourceExhausted(Memory3Error):
    """A limit, a quota or the disk is full."""


class Corrupted(Memory3Error):
    """Stored bytes fail their checksum; they are quarantined and never served."""


class DeadlineExceeded(Memory3Error, TimeoutError):
    """The caller's time ran out before the answer was ready."""


class Cancelled(Memory3Error):
    """The caller went away before the answer was ready."""


class Unavailable(Memory3Error):
    """The service is closed, stopping or out of reach; the call may be tried again."""
