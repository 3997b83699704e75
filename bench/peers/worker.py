"""The processes of a run. Each speaks in JSON lines on its standard output, and ends when its input does.

    python bench/peers/worker.py measure|restart|client|echo|floors ARGUMENTS-AS-JSON

`measure` loads a store, measures it in process, and then upserts until it is killed; `restart` opens what was left,
looks for what was acknowledged, and serves; `client` measures a server from outside; `echo` is the bare transport.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memory3.bench.peers import bare_grpc, measures, sizes
from memory3.bench.peers.bare_grpc import BareClient
from memory3.bench.peers.protocol import Peer, Searcher, Serving
from memory3.bench.peers.registry import peer as peer_of
from memory3.bench.peers.timing import latencies
from memory3.bench.peers.work import KEY_VALUE_BYTES, K, Work, load_work

KILL_SHARE = 4_096
"""The last so many spare items are for the upserts that a kill ends: more than any store takes until then."""


def main() -> int:
    mode, options = sys.argv[1], json.loads(sys.argv[2])
    try:
        MODES[mode](options)
    except Exception as error:
        say(failed=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
        return 1
    return 0


def say(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def measure(options: dict[str, Any]) -> None:
    """Everything in process; each result is said as soon as it is there."""
    peer, work, path = _setting(options)
    wanted, seconds, calls = options["measures"], options["seconds"], options["calls"]
    say(**_description(peer))
    scratch = path / "check"
    scratch.mkdir(parents=True)
    checked = peer.open(scratch, 2 * measures.BATCH)
    measures.check(checked, peer, work)
    checked.close()
    say(checked=True)
    data = _data(path)
    data.mkdir()
    store = peer.open(data, work.size)
    say(load=measures.load(store, work, options["load_limit_s"]))
    tuned = measures.tune(store, peer, work)
    effort = tuned["effort"]
    say(tuned=tuned)
    if "recall" in wanted:
        say(recall=measures.recall(store, work, calls, seconds))
    say(size={"disk": sizes.disk_bytes(data), "live": work.live_bytes})
    if "filtered" in wanted:
        say(filtered=measures.filtered(store, peer, work, calls))
        if effort:
            store.set_effort(effort)
    if "upserts" in wanted:
        say(upserts=measures.upserts(store, work, seconds))
    if "mixed" in wanted:
        say(mixed=measures.mixed(store, peer, work, effort, seconds))
        started = time.perf_counter()
        store.settle()
        say(after={"settle_s": time.perf_counter() - started, "disk": sizes.disk_bytes(data)})
    if "restart" in wanted:
        say(killable=list(store.processes()))
        for key in range(len(work.vectors) - KILL_SHARE, len(work.vectors)):
            store.upsert([work.item(key)])
            say(acknowledged=key)
        sys.stdin.read()
    else:
        store.close()


def restart(options: dict[str, Any]) -> None:
    """Open, answer, look for what was acknowledged; then serve until the input ends."""
    peer, work, path = _setting(options)
    data, effort, acknowledged = _data(path), options["effort"], options["acknowledged"]
    before = sizes.memory_bytes()
    started = time.perf_counter()
    store = peer.open(data, work.size)
    probe = int(work.exact[0][0])
    wrong = measures.wrong_version(store, work, probe, 0)
    if wrong:
        raise measures.Wrong(f"after the start {wrong}")
    first_s = time.perf_counter() - started
    if peer.efforts:
        store.set_effort(peer.efforts[-1])
    lost = [key for key in acknowledged if measures.wrong_version(store, work, key, 0)]
    if effort:
        store.set_effort(effort)
    for question in work.questions[: measures.TUNING_QUESTIONS]:
        store.recall(question, K)
    memory = sizes.grown(before, sizes.memory_bytes(store.processes()))
    say(restart={"first_s": first_s, "acknowledged": len(acknowledged), "lost": len(lost), "memory": memory})
    store.delete(range(len(work.vectors) - KILL_SHARE, len(work.vectors)))
    store.settle()
    # Anew: an index that was built or changed again may need another effort for the same recall.
    effort = measures.tune(store, peer, work)["effort"]
    say(served={"effort": effort})
    if peer.serve is None:
        _serve_until_told(bare_grpc.serve(store))
        store.close()
    else:
        store.close()
        _serve_until_told(peer.serve(data, work.size, effort))


def client(options: dict[str, Any]) -> None:
    """Recall over the network."""
    peer, work, _ = _setting(options)
    searcher = _connect(peer, options)
    recall = _recall(searcher, work)
    say(network={**measures.recall(searcher, work, options["calls"], options["seconds"]), "recall": recall})
    searcher.close()


def echo(options: dict[str, Any]) -> None:
    """The bare transport with answers of the same size."""
    _serve_until_told(bare_grpc.serve_echo([bytes(KEY_VALUE_BYTES)] * K))


def floors(options: dict[str, Any]) -> None:
    """Calls of a served store in turns with its floors: bare FAISS and LMDB in process, and the bare transport."""
    peer, work, path = _setting(options)
    searchers: dict[str, Searcher] = {"network": _connect(peer, options), "echo": BareClient(options["echo"])}
    recalls: dict[str, float] = {}
    for name in ("faiss-flat", "faiss-ivf"):
        floor = peer_of(name)
        directory = path / name
        directory.mkdir()
        store = floor.open(directory, work.size)
        measures.load(store, work, options["load_limit_s"])
        recalls[name] = measures.tune(store, floor, work)["recall"]
        searchers[name] = store

    def recalling(searcher: Searcher) -> Callable[[int], object]:
        return lambda number: searcher.recall(work.questions[number % len(work.questions)], K)

    times = latencies({name: recalling(searcher) for name, searcher in searchers.items()}, options["calls"])
    for searcher in searchers.values():
        searcher.close()
    say(floors={"times": times, "recalls": recalls})


def _description(peer: Peer) -> dict[str, Any]:
    fields = ("title", "index", "durable", "effort_name", "transport", "floor")
    versions = {package: version(package) for package in peer.packages}
    return {field: getattr(peer, field) for field in fields} | {"versions": versions}


def _recall(searcher: Searcher, work: Work) -> float:
    """The share of the exact nearest whose key-values came back: a bare server answers without keys."""
    questions = range(len(work.questions))
    found = 0
    for number in questions:
        answered = {one.key_values for one in searcher.recall(work.questions[number], K)}
        found += len(answered & {work.key_values(int(key)) for key in work.exact[number]})
    return found / (len(questions) * K)


def _connect(peer: Peer, options: dict[str, Any]) -> Searcher:
    connect = peer.connect
    return BareClient(options["address"]) if connect is None else connect(options["address"], options["effort"])


def _setting(options: dict[str, Any]) -> tuple[Peer, Work, Path]:
    return peer_of(options["peer"]), load_work(Path(options["work"])), Path(options["path"])


def _data(path: Path) -> Path:
    return path / "data"


def _serve_until_told(server: Serving) -> None:
    say(address=server.address)
    sys.stdin.read()
    server.stop()


MODES: dict[str, Callable[[dict[str, Any]], None]] = {
    "measure": measure,
    "restart": restart,
    "client": client,
    "echo": echo,
    "floors": floors,
}

if __name__ == "__main__":
    sys.exit(main())
