"""The figures of bench/engine.py as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from memory3.bench.engine_timing import PARTS as ENGINE_PARTS

RECALL_PARTS = ("embed", "search", "read", "decode", "note")
ACCOUNT = ("queue", "recall", "fetch", "model", "total")


def check_line(checked: Mapping[str, Any]) -> str:
    told = f"{checked['answers']} greedy answers of the engine are those of the model alone"
    if not checked["differ"]:
        return f"{told}."
    return (
        f"{told}, but {checked['differ']} that differ where tokens are as likely within {checked['behind']:.1f} times "
        "the resolution."
    )


def memory_lines(measured: list[dict[str, Any]]) -> Iterator[str]:
    yield "## With memory over without"
    yield ""
    yield "| at a time | variant | tokens/s | over no memory: median (min to max) | found on the device |"
    yield "|---|---|---|---|---|"
    for one in measured:
        for name, variant in one["variants"].items():
            rate, found = variant["tokens_per_s"]["median"], variant["device_hits"]
            yield f"| {one['running']} | {name} | {rate:,.0f} | {_ratio(variant['ratio'])} | {found:.1%} |"
    yield ""
    yield "Milliseconds for each request; what several have in common is shared among them. Of the recall thread:"
    yield "embedding, search, reading from the store, decoding into slots, counting reads. Of the engine's:"
    yield "attention, whole steps with that. Then their own account: all that a request waits for counts whole in it;"
    yield "`model` are the steps that it took part in."
    yield ""
    parts = (*RECALL_PARTS, *ENGINE_PARTS)
    yield f"| at a time | variant | requests | {' | '.join((*parts, *ACCOUNT))} |"
    yield "|---" * (3 + len(parts) + len(ACCOUNT)) + "|"
    for one in measured:
        for name, variant in one["variants"].items():
            shared, account = _ms(variant["parts"], parts), _ms(variant["seconds"], ACCOUNT)
            yield f"| {one['running']} | {name} | {one['requests']} | {shared} | {account} |"
    yield ""
    missed = ", ".join(f"{one['replays_missed']} at {one['running']}" for one in measured)
    yield f"Queries that recall by vector had to embed after all: {missed}."


def rag_lines(measured: dict[str, Any]) -> Iterator[str]:
    yield "## Memories against text RAG"
    yield ""
    yield (
        f"{measured['requests']} questions, {measured['callers']} at a time, {measured['answer_tokens']} tokens each. "
        f"A prompt's tokens: {measured['question_tokens']:.0f} from memories, {measured['prompt_tokens']:.0f} by RAG."
    )
    yield (
        f"The texts differ for each question, so a prefix cache could hold the first {measured['shared_tokens']} "
        "of these (`<s>` and the prefix): there is none here."
    )
    yield ""
    yield "| variant | requests/s | tokens/s | over text RAG: median (min to max) | over generate | ms to the answer |"
    yield "|---|---|---|---|---|---|"
    for name, variant in measured["variants"].items():
        rate = variant["tokens_per_s"]["median"]
        total = 1e3 * variant["seconds"]["total"]
        requests = rate / measured["answer_tokens"]
        ratios = f"{_ratio(variant['ratio'])} | {_ratio(measured['over_generate'][name])}"
        yield f"| {name} | {requests:,.1f} | {rate:,.0f} | {ratios} | {total:,.0f} |"
    yield ""
    yield from _bytes_lines(measured["bytes"])


def _bytes_lines(measured: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield "Key-values that a request reads of its references:"
    yield ""
    yield "| shape | as | bytes | of them in the context over this |"
    yield "|---|---|---|---|"
    for shape, ways in measured.items():
        for way, count in ways.items():
            yield f"| {shape} | {way} | {count:,.0f} | {ways['in the context'] / count:,.1f} |"


def streams_lines(measured: dict[str, Any]) -> Iterator[str]:
    yield "## Streams"
    yield ""
    yield f"{measured['callers']} streams together over one at a time: {_ratio(measured['ratio'])} in tokens/s."
    yield ""
    yield "| streams | tokens/s | first text ms p50 / p99 | text to text ms p50 / p99 / longest | tokens in a text |"
    yield "|---|---|---|---|---|"
    for name, way in measured["ways"].items():
        first, gap = way["first_ms"], way["gap_ms"]
        yield (
            f"| {name} | {way['tokens_per_s']['median']:,.0f} | {first['p50']:,.1f} / {first['p99']:,.1f} "
            f"| {gap['p50']:,.2f} / {gap['p99']:,.2f} / {gap['max']:,.1f} | {way['tokens_per_text']:.3f} |"
        )


def soak_lines(measured: dict[str, Any]) -> Iterator[str]:
    asked = ", ".join(f"{count:,} {what}" for what, count in sorted(measured["requests"].items()))
    yield "## Soak"
    yield ""
    yield f"{measured['minutes']:g} minutes: requests {asked}; {measured['tokens']:,} tokens."
    yield f"Resident memory of the last quarter over the second: {measured['growth']:.3f}."
    yield f"Still running, waiting or pinned at the end: {measured['left_over']}."
    yield f"Errors: {', '.join(measured['errors']) or 'none'}."
    yield "Passed." if measured["ok"] else "FAILED."


def _ratio(values: Mapping[str, float]) -> str:
    return f"{values['median']:.3f} ({values['min']:.3f} to {values['max']:.3f})"


def _ms(seconds: Mapping[str, float], names: tuple[str, ...]) -> str:
    return " | ".join(f"{1e3 * seconds.get(name, 0.0):,.1f}" for name in names)
