"""`memory3 get`, `delete` and `list`: documents by their keys."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from ..store.errors import InvalidArgument, NotFound
from .connection import connected
from .options import CollectionName, Data, FilterText, Json, ServerAddress, Target, filter_of
from .output import document_fields, plain, print_json, results, short, time_of


def get(
    key: Annotated[str, typer.Argument(help="The document's key.", show_default=False)],
    data: Data = None,
    server: ServerAddress = None,
    collection: CollectionName = None,
    json: Json = False,
) -> None:
    """Print the text of a document; with --json also its version, metadata and time."""
    target = Target.of(data, server, collection)
    with connected(target) as memory:
        document = memory.get(key, collection=target.collection)
    if document is None:
        raise NotFound(f"there is no document {key!r} in collection {target.collection!r}; see: memory3 list")
    if json:
        print_json(document_fields(document))
    else:
        typer.echo(document.text)


def delete(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY...]", help="Keys of documents.", show_default=False)
    ] = None,
    filter: FilterText = None,
    data: Data = None,
    server: ServerAddress = None,
    collection: CollectionName = None,
    json: Json = False,
) -> None:
    """Forget documents, by key or by filter. Once this returns, nothing of them is ever recalled or read again."""
    if not keys and filter is None:
        raise InvalidArgument("nothing to delete was named; give keys, or a filter with --filter")
    target = Target.of(data, server, collection)
    with connected(target) as memory:
        receipt = memory.delete(keys or None, filter=filter_of(filter), collection=target.collection)
    if json:
        print_json(asdict(receipt))
    else:
        results.print(f"{len(receipt.deleted)} documents deleted, {receipt.memories} memories gone")
        for key in receipt.missing:
            results.print(plain(f"there was no document {key!r}"))


def list_documents(
    filter: FilterText = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Documents on a page.")] = 100,
    page_token: Annotated[str, typer.Option(help="Where to go on: the token of the page before.")] = "",
    data: Data = None,
    server: ServerAddress = None,
    collection: CollectionName = None,
    json: Json = False,
) -> None:
    """List documents in the order of their keys, a page at a time."""
    target = Target.of(data, server, collection)
    with connected(target) as memory:
        page = memory.list(filter=filter_of(filter), limit=limit, page_token=page_token, collection=target.collection)
    if json:
        documents = [document_fields(document) for document in page.documents]
        print_json({"documents": documents, "next_page_token": page.next_page_token})
        return
    table = Table()
    table.add_column("key", overflow="fold", min_width=12)
    for column in ("memories", "reads", "updated", "text"):
        table.add_column(column, no_wrap=True)
    for document in page.documents:
        updated = time_of(document.updated_at)
        numbers = str(len(document.memories)), str(sum(document.reads))
        table.add_row(plain(document.key), *numbers, updated, plain(short(document.text, 60)))
    results.print(table)
    if page.next_page_token:
        results.print(f"there are more: memory3 list --page-token {page.next_page_token}", soft_wrap=True)
