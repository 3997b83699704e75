"""Which environments nobody may open or change, because a damaged page would end the process: found before that."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from .durable import remove_file, write_file
from .environment import DATA_FILE, DEADLY_FILE, UNFIT_FILE
from .mend import mended
from .page_check import look_at
from .walk import ended_by

WALK_AFTER = 2
"""Processes that end one after the other without closing a directory, until everything in it is walked through."""
LOOKED_AT_BYTES_MAX = 64 << 20
"""Of pages of a data file that are looked at before each opening, which takes up to a tenth of a second."""
LOOKED_AT_TOGETHER_BYTES_MAX = 256 << 20
"""Of pages of all files that are looked at before an opening."""

_log = logging.getLogger(__name__)


def set_aside(environments: Sequence[Path], derived: Sequence[Path], ended: int) -> None:
    """Mark those that must not be opened, or not changed; `ended` processes, one after the other, have not closed them.

    Where pages do not fit together, what is `derived` is copied if that loses nothing. If not, it is refused at once,
    since it can be made again. The others can be read, unless that ends a process that walks through them, or may have
    been what ended the last one. A change of such pages would end the process, or do more harm.
    """
    left = [environment for environment in environments if not (environment / DEADLY_FILE).exists()]
    suspects = []
    # Of key-values, which are large files, few pages lead to all.
    for environment, unfit in _looked_at(sorted(left, key=lambda one: one not in derived)):
        if unfit is None:
            remove_file(environment / UNFIT_FILE)
        elif environment in derived and mended(environment):
            remove_file(environment / UNFIT_FILE)
            _log.warning("%s was damaged (%s); all that it holds could be read, and was copied", environment, unfit)
        elif ended or environment in derived:
            _mark(environment, DEADLY_FILE, unfit)
        else:
            _mark(environment, UNFIT_FILE, unfit)
            suspects.append(environment)
    if ended >= WALK_AFTER:
        suspects = [environment for environment in left if not (environment / DEADLY_FILE).exists()]
    for environment, name in ended_by(suspects).items():
        _mark(environment, DEADLY_FILE, f"its pages end processes ({name})")


def _looked_at(environments: Sequence[Path]) -> Iterator[tuple[Path, str | None]]:
    """Yield environments and what does not fit in them, as far as was looked, as many as may be.

    Of each file as much as ever is looked at, or nothing: what was found before is found again.
    """
    left = LOOKED_AT_TOGETHER_BYTES_MAX
    for environment in environments:
        if left < LOOKED_AT_BYTES_MAX:
            return
        # What cannot be read is told of by whoever opens it.
        try:
            look = look_at(environment / DATA_FILE, LOOKED_AT_BYTES_MAX)
        except OSError:
            continue
        left -= look.bytes
        yield environment, look.unfit and f"its pages do not fit together ({look.unfit})"


def _mark(environment: Path, name: str, why: str) -> None:
    write_file(environment / name, why.encode())
    _log.error("%s is damaged, and is not %s: %s", environment, "opened" if name == DEADLY_FILE else "changed", why)
