"""The tables of `bench/store.py`, from its file of results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from memory3.bench.peers.registry import MODULES

RATIO_MAX = 1.3
"""What a recall over gRPC may cost, as a multiple of the sum of its floors."""
OURS = "memory3"
NOTHING = "-"
Results = Mapping[str, Any]
Row = Sequence[str]


def markdown(results: Results) -> str:
    """The section of `docs/performance.md`: tables of every run, growth over them, settings, and what failed."""
    runs = sorted(results["runs"].values(), key=lambda run: (run["size"], run["key_values"]))
    parts = [part for run in runs for part in _of_run(run)]
    if len(runs) > 1:
        parts += ["### Growth", _table(*_growth(runs))]
    parts += ["### Settings", _table(*_settings(runs))]
    return "\n\n".join(parts)


def _of_run(run: Results) -> Iterator[str]:
    peers = {name: run["peers"][name] for name in MODULES if name in run["peers"]}
    yield f"### {run['size']:,} items, {run['key_values']:,} with key-values"
    yield "; ".join(_machine_lines(peers))
    tables: list[tuple[str, Callable[[Results], tuple[Row, Sequence[Row]]]]] = [
        ("Recall of 5 with their key-values, in process:", _recall),
        ("The same from another process:", _network),
        ("Changes, durable as the last table says:", _changes),
        ("Recall among 1 % and 10 % of the items:", _filtered),
        (
            "After `kill -9` amid upserts; on disk and in memory, for each byte of live vectors and key-values:",
            _restart,
        ),
    ]
    for title, rows_of in tables:
        head, rows = rows_of(peers)
        if rows:
            yield title
            yield _table(head, rows)
    floors = peers.get(OURS, {}).get("floors")
    if floors:
        yield _floors(floors)
    failed = [f"- {title_of(name, peer)}: {peer['error']}" for name, peer in peers.items() if "error" in peer]
    if failed:
        yield "Failed:\n\n" + "\n".join(failed)


def _machine_lines(peers: Results) -> list[str]:
    """What holds of all of them once; their commits and loads, as they ran one after another."""
    machines = [peer["machine"] for peer in peers.values()]
    lines = [*dict.fromkeys(f"{m['hardware']}; {m['threads']}; {m['system']}; {m['versions']}" for m in machines)]
    loads = [float(m["load"].split()[1]) for m in machines]
    commits = ", ".join(dict.fromkeys(m["commit"] for m in machines))
    return [*lines, f"load {min(loads)} to {max(loads)} when each store began", commits]


def _recall(peers: Results) -> tuple[Row, Sequence[Row]]:
    head = ("", "effort", "recall@5", "p50 ms", "p99 ms", "calls/s: 1 caller", "4", "16")
    return head, [
        (title_of(name, peer), _effort(peer, peer["tuned"]), _share(peer["tuned"]["recall"]), *_times(peer["recall"]))
        for name, peer in with_parts(peers, "recall")
    ]


def _network(peers: Results) -> tuple[Row, Sequence[Row]]:
    head = ("", "through", "effort", "recall@5", "p50 ms", "p99 ms", "calls/s: 1 caller", "4", "16")
    return head, [
        (
            title_of(name, peer),
            peer["transport"],
            _effort(peer, peer["served"]),
            _share(peer["network"]["recall"]),
            *_times(peer["network"]),
        )
        for name, peer in with_parts(peers, "network")
    ]


def _changes(peers: Results) -> tuple[Row, Sequence[Row]]:
    head = ("", "load s", "upserts/s, single", "by 64", "mixed calls/s", "recall p50 ms", "p99 ms", "looked up after")
    rows: list[Row] = []
    for name, peer in with_parts(peers, "upserts", "mixed"):
        mixed, load = peer["mixed"], peer["load"]
        rows.append(
            (
                title_of(name, peer),
                f"{load['load_s'] + load['settle_s']:.1f}",
                f"{peer['upserts']['single_per_s']:,.0f}",
                f"{peer['upserts']['batch_per_s']:,.0f}",
                f"{mixed['calls_per_s']:,.0f}",
                *_percentiles(mixed["recall"]),
                f"{mixed['probed']}, all right",
            )
        )
    return head, rows


def _filtered(peers: Results) -> tuple[Row, Sequence[Row]]:
    head = ("", "1 %: effort", "recall@5", "p50 ms", "p99 ms", "10 %: effort", "recall@5", "p50 ms", "p99 ms")
    rows: list[Row] = []
    for name, peer in with_parts(peers, "filtered"):
        cells: list[str] = []
        for found in peer["filtered"].values():
            if "unsupported" in found:
                cells += [found["unsupported"], "", "", ""]
            else:
                cells += [_effort(peer, found), _share(found["recall"]), *_percentiles(found)]
        rows.append((title_of(name, peer), *cells))
    return head, rows


def _restart(peers: Results) -> tuple[Row, Sequence[Row]]:
    head = ("", "first right answer s", "acknowledged", "lost", "disk", "after changes", "memory", "mapped files")
    rows: list[Row] = []
    for name, peer in with_parts(peers, "restart", "size"):
        restart, size = peer["restart"], peer["size"]
        live = size["live"]
        rows.append(
            (
                title_of(name, peer),
                f"{restart['first_s']:.2f}",
                f"{restart['acknowledged']}",
                f"{restart['lost']}",
                f"{size['disk'] / live:.2f}",
                f"{peer['after']['disk'] / live:.2f}" if "after" in peer else "",
                f"{restart['memory']['own'] / live:.2f}",
                f"{restart['memory']['mapped'] / live:.2f}",
            )
        )
    return head, rows


def _floors(floors: Results) -> str:
    """The ratio to the sum of the floors, for each bare index."""
    times, recalls = floors["times"], floors["recalls"]
    ours, echo = times["network"]["p50_ms"], times["echo"]["p50_ms"]
    lines = []
    for name in recalls:
        floor = echo + times[name]["p50_ms"]
        ratio = ours / floor
        verdict = "within" if ratio <= RATIO_MAX else "over"
        lines.append(
            f"- {name} and LMDB in process {times[name]['p50_ms']:.2f} ms (recall@5 {_share(recalls[name])}) and a "
            f"bare gRPC echo of the same bytes {echo:.2f} ms: ratio **{ratio:.2f}**, {verdict} the {RATIO_MAX} wanted"
        )
    head = f"Memory3 over gRPC against its floors, in turns in one process: p50 {ours:.2f} ms."
    return "\n".join([head, "", *lines])


def _growth(runs: Sequence[Results]) -> tuple[Row, Sequence[Row]]:
    sizes = [run["size"] for run in runs]
    head = ("", *(f"p50 ms, {size:,}" for size in sizes), *(f"upserts/s by 64, {size:,}" for size in sizes))
    rows: list[Row] = []
    for name in dict.fromkeys(name for run in runs for name in run["peers"]):
        found = [run["peers"].get(name, {}) for run in runs]
        title = next(title_of(name, peer) for peer in found if peer)
        p50 = [f"{peer['recall']['p50_ms']:.2f}" if "recall" in peer else NOTHING for peer in found]
        rate = [f"{peer['upserts']['batch_per_s']:,.0f}" if "upserts" in peer else NOTHING for peer in found]
        rows.append((title, *p50, *rate))
    return head, rows


def _settings(runs: Sequence[Results]) -> tuple[Row, Sequence[Row]]:
    found = {name: peer for run in runs for name, peer in run["peers"].items() if "index" in peer}
    peers = {name: found[name] for name in MODULES if name in found}
    rows: list[Row] = [
        (
            peer["title"],
            ", ".join(f"{package} {version}" for package, version in peer["versions"].items()),
            peer["index"],
            peer["durable"],
        )
        for peer in peers.values()
    ]
    return ("", "versions", "index", "what an acknowledged change survives"), rows


def with_parts(peers: Results, *parts: str) -> Iterator[tuple[str, Results]]:
    """The stores of which all these parts were measured."""
    return ((name, peer) for name, peer in peers.items() if all(part in peer for part in parts))


def title_of(name: str, peer: Results) -> str:
    """How a store is called in tables and plots."""
    title = str(peer.get("title", name))
    return f"{title} (floor)" if peer.get("floor") else title


def _effort(peer: Results, tuned: Results) -> str:
    return f"{peer['effort_name']} {tuned['effort']}" if tuned["effort"] else NOTHING


def _times(found: Results) -> Row:
    return (*_percentiles(found), *(f"{rate:,.0f}" for rate in found["calls_per_s"].values()))


def _percentiles(found: Results) -> Row:
    return f"{found['p50_ms']:.2f}", f"{found['p99_ms']:.2f}"


def _share(recall: float) -> str:
    return f"{recall:.3f}"


def _table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
