"""What commands print: results to standard output, everything else to standard error."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..calls import Progress as ProgressCall
from ..store.types import Hit, StoredDocument

notes = Console(stderr=True, highlight=False)
"""For progress and remarks."""
results = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def print_json(value: object) -> None:
    """One JSON value, indented; text stays readable."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def counted(description: str) -> Iterator[ProgressCall]:
    """A bar for work that tells how many of how many things are done; shown on a terminal only."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def counted_bytes(description: str) -> Iterator[ProgressCall]:
    """A bar for work that tells how many of how many bytes are done; shown on a terminal only."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        # A total of 0: it waits for other work, and does not know yet.
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def hit_fields(hit: Hit) -> dict[str, Any]:
    return {
        "key": hit.key,
        "text": hit.text,
        "score": hit.score,
        "version": hit.version,
        "metadata": dict(hit.metadata),
    }


def document_fields(document: StoredDocument) -> dict[str, Any]:
    return {
        "key": document.key,
        "text": document.text,
        "version": document.version,
        "memories": len(document.memories),
        "reads": list(document.reads),
        "updated_at": document.updated_at,
        "metadata": dict(document.metadata),
    }


def table_of_hits(hits: Sequence[Hit], title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("score")
    table.add_column("key", overflow="fold", min_width=12)
    table.add_column("text")
    for hit in hits:
        table.add_row(f"{hit.score:.3f}", plain(hit.key), plain(short(hit.text, 300)))
    return table


def table_of_fields(fields: Mapping[str, object]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in fields.items():
        table.add_row(name, plain(str(value)), style=None)
    return table


def plain(text: str) -> Text:
    """Text that is shown as it is: brackets in it are no markup, and control characters no commands to a terminal."""
    return Text("".join(character if character.isprintable() or character == "\n" else "�" for character in text))


def short(text: str, characters: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1] + "…"


def time_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def bytes_of(number: float) -> str:
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        units.pop(0)
    return f"{number:,.0f} B" if units[0] == "B" else f"{number:,.1f} {units[0]}"
