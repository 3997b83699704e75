"""`memory3 search` and `memory3 ask`: finding memories, and answering from them."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ..answers import Answer, Text
from ..store.types import Hits
from .connection import connected
from .explaining import explanation_fields, table_of_chunk
from .options import CollectionName, Data, EmbedderName, FilterText, Json, ModelName, ServerAddress, Target, filter_of
from .output import hit_fields, notes, plain, print_json, results, table_of_hits


def search(
    query: Annotated[str, typer.Argument(help="What to look for.", show_default=False)],
    k: Annotated[int, typer.Option("--memories", "-k", min=1, max=1000, help="How many memories to show.")] = 5,
    filter: FilterText = None,
    data: Data = None,
    server: ServerAddress = None,
    collection: CollectionName = None,
    embedder: EmbedderName = None,
    json: Json = False,
) -> None:
    """Show the memories nearest to a text, best first."""
    target = Target.of(data, server, collection, embedder=embedder)
    with connected(target) as memory:
        hits = memory.recall(query, k, filter=filter_of(filter), collection=target.collection)
    if json:
        print_json([hit_fields(hit) for hit in hits])
    _note_missing(Hits.missing_of(hits))
    if json:
        return
    if hits:
        results.print(table_of_hits(hits))
    elif filter is not None:
        results.print("no document matches the filter")
    else:
        results.print("nothing is stored yet; add documents with: memory3 add PATH")


def ask(
    question: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    k: Annotated[int, typer.Option("--memories", "-k", min=0, max=64, help="Memories each chunk reads; 0: none.")] = 5,
    filter: FilterText = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, max=100.0, help="0 takes the likeliest token.")] = 0.0,
    seed: Annotated[int | None, typer.Option(min=0, help="For the same answer again at a temperature.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell what each memory did for the answer.")] = False,
    data: Data = None,
    server: ServerAddress = None,
    collection: CollectionName = None,
    model: ModelName = None,
    embedder: EmbedderName = None,
    json: Json = False,
) -> None:
    """Answer a question from memories: the answer as it comes, then the memories that were read."""
    target = Target.of(data, server, collection, model=model, embedder=embedder)
    with (
        connected(target) as memory,
        memory.ask(
            question,
            filter=filter_of(filter),
            collection=target.collection,
            max_tokens=max_tokens,
            memories=k,
            temperature=temperature,
            seed=seed,
            explain=explain,
        ) as stream,
    ):
        shown = False
        for event in stream.events():
            if isinstance(event, Text) and not json:
                text = event.text if shown else event.text.lstrip()
                results.print(plain(text), end="", soft_wrap=True)
                shown = shown or bool(text)
        answer = stream.result()
    if not json:
        results.print()
    _note_missing(answer.missing_shards)
    if json:
        explanation = {"explanation": [explanation_fields(chunk) for chunk in answer.explanation]} if explain else {}
        print_json(answer_fields(answer) | explanation)
        return
    if answer.memories:
        results.print(table_of_hits(answer.memories, title="memories read"))
    for chunk in answer.explanation:
        results.print(table_of_chunk(chunk))
    seconds = ", ".join(f"{name} {value:.2f} s" for name, value in answer.seconds.items())
    results.print(f"{answer.tokens} tokens; {seconds}", style="dim")


def _note_missing(shards: Sequence[int]) -> None:
    if shards:
        notes.print(f"shards {', '.join(map(str, shards))} are damaged and were not asked: memory3 check")


def answer_fields(answer: Answer) -> dict[str, Any]:
    return {
        "answer": answer.text,
        "memories": [hit_fields(hit) for hit in answer.memories],
        "seconds": dict(answer.seconds),
    }
