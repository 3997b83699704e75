"""A check of a shard, step by step. Changes go on meanwhile, and each step is right whatever they do."""

from collections.abc import Callable
from typing import TypeAlias

from . import derived, records
from .findings import Findings
from .parts import Parts

Step: TypeAlias = Callable[[Parts, Findings], None]

_QUICK: tuple[Step, ...] = (
    *(records.check_documents, records.check_vectors, records.check_log, records.check_expiry, records.check_marks),
    *(derived.check_index, derived.check_key_values, derived.check_marks),
)
_FULL: tuple[Step, ...] = (
    *(records.check_contents, records.check_changes, records.check_terms, records.check_keys, records.check_requests),
    *(derived.check_vectors, derived.check_values, derived.check_reads),
)


def steps(full: bool) -> tuple[Step, ...]:
    """Return what a check does, in order; a `full` one also reads every value."""
    return _QUICK + _FULL if full else _QUICK
