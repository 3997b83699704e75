"""The store against its peers: the same work, side by side in one run, at equal recall and durability.

    python bench/store.py --size 10000 --key-values 10000 --peers all --out FILE.json
    python bench/store.py --report FILE.json

Each store runs in processes of its own, one store after another, on a fresh directory, one thread a process. It is
checked before it is timed; one that fails is reported with its error, the others go on, and the exit code is 1. What is
finished is kept in the file: the same command goes on where it was stopped, and other sizes may be added to the same
file. The report prints tables and draws plots. Peers are libraries of the extra `bench` (pip install '.[bench]').
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memory3.bench.peers.processes import ENVIRONMENT, Failed, Worker, note, worker

MEASURES = ("recall", "network", "filtered", "upserts", "mixed", "restart", "floors")
ROOT = Path(__file__).resolve().parents[1]
KILLED_AFTER_S = 1.0
GONE_S = 10.0
OURS = "memory3"


def main() -> int:
    options = parsed(sys.argv[1:])
    if options.report:
        from memory3.bench.store_report import markdown

        results = json.loads(options.report.read_text(encoding="utf-8"))
        print(markdown(results))
        if options.plots:
            from memory3.bench.store_plots import draw

            draw(results, options.plots)
        return 0
    # Late: they load numpy, which reads the number of threads then.
    os.environ.update(ENVIRONMENT)
    work = prepare(options)
    results = read(options.out)
    run_key = f"{options.size}/{options.key_values}"
    run = results["runs"].setdefault(run_key, {"size": options.size, "key_values": options.key_values, "peers": {}})
    for name in options.peers:
        if name in run["peers"] and "error" not in run["peers"][name]:
            note(f"{name}: finished before")
            continue
        run["peers"][name] = compare(name, work, options)
        write(options.out, results)
    return int(any("error" in run["peers"][name] for name in options.peers))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    from memory3.bench.peers.registry import MODULES

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=_positive, default=10_000, help="items [10000]")
    parser.add_argument("--key-values", type=_positive, help="items that have key-values [all of them]")
    parser.add_argument(
        "--peers", type=_names(MODULES), default=list(MODULES), help=f"all, or some of {','.join(MODULES)}"
    )
    parser.add_argument("--measures", type=_names(MEASURES), default=list(MEASURES), help=f"of {','.join(MEASURES)}")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "store.json", help="results [runs/store.json]")
    parser.add_argument("--calls", type=_positive, default=1_000, help="calls of each latency [1000]")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measure of throughput [5]")
    parser.add_argument("--questions", type=_positive, default=1_000, help="at most so many [1000]")
    parser.add_argument("--load-limit", type=float, default=3_600, metavar="S", help="seconds a load may take [3600]")
    parser.add_argument(
        "--embeddings", type=Path, default=ROOT / "runs" / "store" / "squad.npz", help="made if missing"
    )
    parser.add_argument("--data", type=Path, help="folder that they are made from [MEMORY3_TEST_DATA]")
    parser.add_argument("--limit", type=float, default=10_800, metavar="S", help="seconds a process may run [10800]")
    parser.add_argument("--folder", type=Path, help="where stores are put, on the disk to be measured [temporary]")
    parser.add_argument("--report", type=Path, metavar="FILE", help="print the tables of a finished run")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="with --report: draw the plots there")
    options = parser.parse_args(arguments)
    options.key_values = min(options.key_values or options.size, options.size)
    return options


def prepare(options: argparse.Namespace) -> Path:
    """The folder of the work, made unless an earlier run left it."""
    from memory3.bench.peers.embeddings import load_embeddings
    from memory3.bench.peers.work import make_work

    name = f"work-{options.size}-{options.key_values}-{options.questions}"
    folder: Path = options.embeddings.parent / name
    if not (folder / "rest.npz").exists():
        note(f"making the work of {options.size:,} items")
        embeddings = load_embeddings(options.embeddings, options.data)
        make_work(folder, embeddings, options.size, options.key_values, options.questions)
    return folder


def compare(name: str, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one store; what failed is in `error`, and what was measured until then is kept."""
    from memory3.bench.machine import machine

    found: dict[str, Any] = {"machine": machine()}
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f"store-{name}-", dir=options.folder))
    # A server may run as a user of its own, and must come through.
    path.chmod(0o755)
    started = time.monotonic()
    try:
        _in_process(name, work, path, options, found)
        if {"restart", "network", "floors"} & {*options.measures}:
            _from_outside(name, work, path, options, found)
    except Failed as error:
        note(f"{name} failed: {error}")
        found["error"] = str(error)
    finally:
        shutil.rmtree(path, ignore_errors=True)
    found["took_s"] = time.monotonic() - started
    return found


def _in_process(name: str, work: Path, path: Path, options: argparse.Namespace, found: dict[str, Any]) -> None:
    acknowledged: list[int] = []
    with worker("measure", arguments(name, work, path, options), path / "measure.log") as process:
        for said in process.lines():
            if "killable" in said:
                _kill_later(process, said["killable"], acknowledged)
                break
            note(f"{name}: {json.dumps(said)}")
            found |= said
    found["acknowledged"] = acknowledged


def _kill_later(process: Worker, others: Sequence[int], acknowledged: list[int]) -> None:
    """Kill everything that holds the store in the middle of its upserts; note what it had acknowledged by then."""

    def kill() -> None:
        for victim in [process.pid, *others]:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue

    timer = threading.Timer(KILLED_AFTER_S, kill)
    timer.start()
    acknowledged += [said["acknowledged"] for said in process.lines(may_end=True)]
    timer.join()
    # A process that was killed is there until its parent, or the system, has taken leave of it.
    end = time.monotonic() + GONE_S
    while any(Path(f"/proc/{other}").exists() for other in others) and time.monotonic() < end:
        time.sleep(0.01)


def _from_outside(name: str, work: Path, path: Path, options: argparse.Namespace, found: dict[str, Any]) -> None:
    given = arguments(name, work, path, options)
    given |= {"effort": found["tuned"]["effort"], "acknowledged": found.pop("acknowledged")}
    with worker("restart", given, path / "restart.log") as server:
        for said in server.lines():
            if "address" in said:
                given["address"] = said["address"]
                break
            note(f"{name}: {json.dumps(said)}")
            found |= said
            given["effort"] = said.get("served", given)["effort"]
        if "network" in options.measures:
            found |= _only_answer("client", given, path)
            note(f"{name}: network {json.dumps(found['network'])}")
        if "floors" in options.measures and name == OURS:
            with worker("echo", given, path / "echo.log") as echo:
                given["echo"] = echo.first()["address"]
                found |= _only_answer("floors", given, path)
            note(f"{name}: floors {json.dumps(found['floors'])}")


def _only_answer(mode: str, given: dict[str, Any], path: Path) -> dict[str, Any]:
    with worker(mode, given, path / f"{mode}.log") as process:
        return process.first()


def arguments(name: str, work: Path, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "peer": name,
        "work": str(work),
        "path": str(path),
        "measures": options.measures,
        "seconds": options.seconds,
        "calls": options.calls,
        "load_limit_s": options.load_limit,
        "limit_s": options.limit,
    }


def read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"runs": {}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def _names(known: Sequence[str] | dict[str, Any]) -> Any:
    def names(text: str) -> list[str]:
        chosen = list(known) if text == "all" else text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return names


if __name__ == "__main__":
    sys.exit(main())
