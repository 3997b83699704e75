"""Points that the store's work passes, by name, so that a test can stop or copy it there; in use they do nothing.

The proofs of tests/reliability replace `reached`: they kill the process at a point, or take the directory as it would
be if the power failed there.
"""

from pathlib import Path
from typing import Final

BEFORE_COMMIT: Final = "before commit"
COMMITTED: Final = "committed"
"""The changes of a transaction are durable; index and key-values have not followed yet."""
WRITING_FILE: Final = "writing file"
BEFORE_RENAME: Final = "before rename"
RENAMED: Final = "renamed"
"""The new file stands under its name, durably."""
COPYING: Final = "copying"
"""Before each piece of a compact copy is written to the new file."""
COPIED: Final = "copied"
"""The copy is whole and durable, and still beside the file that it will replace."""
DIRECTORY_SYNCED: Final = "directory synced"


def reached(point: str, path: Path) -> None:
    """The work has come to `point`, on the file, directory or environment `path`."""
