"""The figures of `bench/real_input.py`, and how they are shown: a table, Markdown, JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

COUNTRIES, SQUAD = "countries", "squad"
"""The collections."""
K = 5
POINTS_APART_MAX = 0.5
"""How far recall@5 may be from that of exact search, in points of a hundred."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """One run of `memory3 add`; its seconds are from reading the file to the last durable document."""

    name: str
    documents: int
    characters: int
    references: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Recall:
    """The share of questions, in percent, whose paragraph the first hit, or one of the first five, belongs to."""

    at_1: float
    at_5: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of single calls, one after the other."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of a run. `split_s` and `embed_s` are this process's, for the references of SQuAD, without a store.

    `latencies` by kind of call: "text" and "vector" over gRPC, "embed" and "search" in this process.
    """

    machine: Mapping[str, str]
    model: str
    key_value_bytes: int
    ingests: Sequence[Ingest]
    written: int
    written_s: float
    split_s: float
    embed_s: float
    questions: int
    recall: Recall
    ceiling: Recall
    latency_calls: int
    latencies: Mapping[str, Latency]

    @property
    def points_apart(self) -> float:
        return self.recall.at_5 - self.ceiling.at_5

    @property
    def passed(self) -> bool:
        return abs(self.points_apart) <= POINTS_APART_MAX


def rows(report: Report) -> Iterator[tuple[str, str, str]]:
    """What was measured, through Memory3, and bare."""
    for ingest in report.ingests:
        what = f"`memory3 add`: {ingest.documents:,} documents of {ingest.name}, {ingest.characters:,} characters"
        rate = f"{ingest.documents / ingest.seconds:.2f} documents/s, {ingest.references / ingest.seconds:.1f}"
        ours = f"{rate} references/s ({ingest.references:,} in {ingest.seconds:.1f} s)"
        yield what, ours, _bare_ingest(report, ingest) if ingest.name == SQUAD else ""
    if report.written:
        rate = f"{report.written / report.written_s:.1f}/s ({report.written:,} in {report.written_s:.1f} s)"
        what = f"key-values of {report.key_value_bytes:,} bytes written in the background by model {report.model}"
        yield what, rate, ""
    asked = f"{report.questions:,} questions of squad"
    yield f"recall@1, {asked}", f"{report.recall.at_1:.2f} %", f"{report.ceiling.at_1:.2f} %"
    apart = f"{report.recall.at_5:.2f} % ({report.points_apart:+.2f} points)"
    yield f"recall@{K}, {asked}", apart, f"{report.ceiling.at_5:.2f} %"
    times = {name: f"{time.p50_ms:.2f} / {time.p99_ms:.2f} ms" for name, time in report.latencies.items()}
    calls = f"over gRPC, p50 / p99 of {report.latency_calls} calls"
    yield f"recall of {K} by text {calls}", times["text"], f"embedding alone {times['embed']}"
    yield f"recall of {K} by vector {calls}", times["vector"], f"FAISS alone, exact {times['search']}"


def table(report: Report) -> Table:
    shown = Table("what", "Memory3", "bare, in one process", show_lines=True)
    for row in rows(report):
        shown.add_row(*row)
    return shown


def markdown(report: Report) -> str:
    """A section for `docs/results.md`."""
    lines = [
        "## Real input",
        "",
        "`python bench/real_input.py`: country profiles and SQuAD paragraphs through `memory3 add` into a running",
        "`memory3 serve`, then the questions over gRPC. Bare is the same embedding model without Memory3, in the same",
        "run: for recall with exact search by numpy over the same references, for time with a flat FAISS index.",
        "",
        f"{'; '.join(report.machine.values())}.",
        "",
        "| what | Memory3 | bare, in one process |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows(report)),
    ]
    return "\n".join(lines) + "\n"


def fields(report: Report) -> dict[str, Any]:
    """The report for machines."""
    return asdict(report) | {"points_apart": report.points_apart, "passed": report.passed}


def _bare_ingest(report: Report, ingest: Ingest) -> str:
    share = 100 * (report.embed_s + report.split_s) / ingest.seconds
    return (
        f"embedding alone {ingest.references / report.embed_s:.1f} references/s ({report.embed_s:.1f} s), "
        f"splitting {report.split_s:.1f} s: {share:.0f} % of the time"
    )
