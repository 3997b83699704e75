"""The table of what memories did shows all that was found, and never an empty field for what was not computed."""

from memory3.answers import ChunkExplanation, ReadMemory
from memory3.commands.explaining import explanation_fields, table_of_chunk
from memory3.store.types import Hit
from rich.console import Console

HITS = [Hit(f"key-{number}", "text", 0.9 - number / 10, 1, {}, number) for number in range(3)]
CHUNK = ChunkExplanation(4, tuple(HITS), (ReadMemory(HITS[0], 0.25, 1.5), ReadMemory(HITS[2], 0.125, None)), 0.625)


def test_what_was_found_read_and_computed_is_told_apart() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table_of_chunk(CHUNK))
    title, *lines = captured.get().splitlines()
    assert "chunk 4" in title
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert cells == [
        ["0.900", "key-0", "25.0%", "+1.50 nats"],
        ["0.800", "key-1", "not read", ""],
        ["0.700", "key-2", "12.5%", "not computed"],
        ["", "context", "62.5%", ""],
    ]


def test_the_fields_hold_the_same() -> None:
    fields = explanation_fields(CHUNK)
    assert [hit["key"] for hit in fields["recalled"]] == ["key-0", "key-1", "key-2"]
    assert [(read["key"], read["mass"], read["log_probability_loss"]) for read in fields["read"]] == [
        ("key-0", 0.25, 1.5),
        ("key-2", 0.125, None),
    ]
    assert (fields["chunk"], fields["context_mass"]) == (4, 0.625)
