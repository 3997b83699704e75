"""`memory3 backup`, `restore` and `compact`: the care of what is on the disk."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..store.errors import FailedPrecondition
from ..store.types import BackupReport
from .connection import connected
from .options import CollectionName, Data, Json, ServerAddress, Target
from .output import bytes_of, counted_bytes, plain, print_json, results, time_of


def backup(
    path: Annotated[
        Path,
        typer.Argument(
            help="New directory of the backup; with --server on the server's machine, and absolute.",
            show_default=False,
        ),
    ],
    data: Data = None,
    server: ServerAddress = None,
    json: Json = False,
) -> None:
    """Copy the whole data directory to a new directory, while it is served."""
    target = Target.of(data, server, None)
    # A server that was found by its data directory is on this machine; one that was named need not be.
    place = path if target.settings.server else path.absolute()
    with connected(target) as memory, counted_bytes("copying") as progress:
        report = memory.backup(place, progress=progress)
    _show(report, "backed up to", json)


def restore(
    backup: Annotated[Path, typer.Argument(help="Directory that `memory3 backup` made.", show_default=False)],
    check: Annotated[
        bool, typer.Option("--check", help="Only look whether the backup is whole; nothing is written.")
    ] = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a new data directory of a backup, once every file of it is found whole. Needs no server.

    What stands at --data is never overwritten: stop its server and move it away first, or name another place.
    """
    try:
        from ..store.backup.restore import restore, verify
    except ImportError as error:
        raise FailedPrecondition(f"restoring needs more libraries ({error}); pip install 'memory3[server]'") from error
    with counted_bytes("comparing" if check else "comparing and copying") as progress:
        report = (
            verify(backup, progress) if check else restore(backup, Target.of(data, None, None).settings.data, progress)
        )
    _show(report, "whole:" if check else "restored from", json)


def compact(
    data: Data = None, server: ServerAddress = None, collection: CollectionName = None, json: Json = False
) -> None:
    """Give free space in a collection's files back to the file system, while it is read and written."""
    target = Target.of(data, server, collection)
    with connected(target) as memory, counted_bytes("copying") as progress:
        report = memory.compact(collection=target.collection, progress=progress)
    if json:
        print_json({"collection": target.collection} | asdict(report))
    else:
        before, after = bytes_of(report.bytes_before), bytes_of(report.bytes_after)
        results.print(plain(f"collection {target.collection}: {before} before, {after} now"))


def _show(report: BackupReport, done: str, json: bool) -> None:
    if json:
        print_json(asdict(report))
        return
    table = Table(title=plain(f"{done} {report.path}"), title_justify="left")
    for column in ("collection", "documents", "memories"):
        table.add_column(column)
    for found in report.collections:
        table.add_row(found.name, str(found.documents), str(found.memories))
    results.print(table)
    results.print(f"begun {time_of(report.started_at)}, {report.files} files, {bytes_of(report.bytes)}")
