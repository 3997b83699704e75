"""What the memories of an answer did, as a table and as JSON."""

from typing import Any

from rich.table import Table

from ..answers import ChunkExplanation, ReadMemory
from .output import hit_fields, plain


def table_of_chunk(chunk: ChunkExplanation) -> Table:
    """A row for each memory that was found, and one for the context."""
    table = Table(title=f"chunk {chunk.chunk}: what its memories did", title_justify="left")
    table.add_column("score")
    table.add_column("key", overflow="fold", min_width=12)
    table.add_column("attention", justify="right")
    table.add_column("the answer loses without it", justify="right")
    read = {(memory.hit.shard, memory.hit.seq): memory for memory in chunk.read}
    for hit in chunk.recalled:
        memory = read.get((hit.shard, hit.seq))
        mass, loss = ("not read", "") if memory is None else (f"{memory.mass:.1%}", _loss(memory))
        table.add_row(f"{hit.score:.3f}", plain(hit.key), mass, loss)
    table.add_row("", "context", f"{chunk.context_mass:.1%}", "", style="dim")
    return table


def _loss(memory: ReadMemory) -> str:
    return "not computed" if memory.log_probability_loss is None else f"{memory.log_probability_loss:+.2f} nats"


def explanation_fields(chunk: ChunkExplanation) -> dict[str, Any]:
    read = [
        hit_fields(memory.hit) | {"mass": memory.mass, "log_probability_loss": memory.log_probability_loss}
        for memory in chunk.read
    ]
    return {
        "chunk": chunk.chunk,
        "recalled": [hit_fields(hit) for hit in chunk.recalled],
        "read": read,
        "context_mass": chunk.context_mass,
    }
