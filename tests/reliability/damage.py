"""Proof: damage to any file is found and named, wrong data is never served, and what is not damaged serves on."""

import random
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .estate import COLLECTIONS, SHARDS, Estate, States
from .faults import folder_in_memory
from .outcome import Outcome
from .pages import PAGE, SECTOR, pages_in_use
from .probing import DIRECTORY, Seen, probe
from .processes import processes

TIMEOUT_S = 30.0
SHARD = "collections/{:08}/shard-{:04}"
ENVIRONMENTS = ("records/data.mdb", "kv/data.mdb")
SNAPSHOT = "index.snapshot"
SNAPSHOT_HEADER = 72
HEADS = ("catalog.json", "format.json")
"""Files of the directory as a whole: without them nothing of it can be opened."""
LOCK = "lock"
"""The file that counts the openings of a directory that were not closed."""
SILENT = "an older state in the place, without a word"
"""What a restored copy looks like, and what is left when the newest meta page is damaged: one commit less."""
WHOLE_SHARE = 0.25
EMPTIED, SET_BACK = "emptying", "replacement by an older copy"
SWAPPED, SWAPPED_SHARDS = "replacement by the other collection's", "replacement by another shard's"


@dataclass(frozen=True, slots=True)
class Injection:
    """Damage to one file, in words: what kind of file, which part of it, how; of the whole directory, or of a shard.

    `older` says that the shard may stand after it as it was before.
    """

    place: str
    act: str
    collection: str | None
    shard: int = 0
    older: bool = False

    @property
    def derived(self) -> bool:
        """Whether it is of a file that can be built again: without it every document must still be served."""
        return self.place.startswith(("kv", SNAPSHOT))

    def __str__(self) -> str:
        of = f"shard {self.shard} of {self.collection}" if self.collection else "the directory"
        return f"{self.act} of {self.place} of {of}"

    def allowed(self, estate: Estate) -> list[States]:
        """Return what may stand after it."""
        if not self.older or self.collection is None:
            return [estate.states]
        before = estate.older_states[self.collection]
        older = estate.states[self.collection].with_shard_of(before, self.shard)
        return [estate.states, {**estate.states, self.collection: older}]


def damage_loop(injections: int, seed: int = 0) -> Outcome:
    """Damage a copy of a data directory `injections` times, each time anew, and look at all that it answers."""
    outcome = Outcome(
        "damage", "one damage to one file of a closed data directory, then every answer of the next opener"
    )
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
        estate = Estate.build(Path(folder))
        for number in range(injections):
            copy = Path(folder, "copy")
            injection = _damaged(copy, estate, f"{seed} {number}")
            seen = look(copy, injection.allowed(estate))
            if isinstance(seen, str):
                outcome.counts[seen] += 1
                outcome.places[f"{injection.place}: {injection.act}", seen] += 1
                shutil.rmtree(copy)
                _damaged(copy, estate, f"{seed} {number}")
                # As after two such ends.
                (copy / LOCK).write_text("2")
                seen = look(copy, injection.allowed(estate))
                outcome.counts[f"{seen} of the third too" if isinstance(seen, str) else "the third served on"] += 1
            outcome.counts["injections"] += 1
            if not isinstance(seen, str):
                _judge(injection, number, seen, outcome)
            shutil.rmtree(copy)
    return outcome.done()


def _damaged(copy: Path, estate: Estate, seed: str) -> Injection:
    """Make a damaged copy of the estate."""
    shutil.copytree(estate.now, copy)
    return inject(copy, estate, random.Random(seed))


def _judge(injection: Injection, number: int, seen: dict[str, Seen], outcome: Outcome) -> None:
    damaged = [seen[DIRECTORY], *(one for name, one in seen.items() if injection.collection in (None, name))]
    reported = any(one.reported for one in damaged)
    found = [f"{name or 'the directory'}: {problem}" for name, one in seen.items() for problem in one.wrong]
    for name, one in seen.items():
        whole = all(one is not other for other in damaged)
        if whole and (one.miscounts or one.reported):
            found.append(f"{name}, which is not damaged: {one.miscounts[:1]}, {one.reported[:3]}")
        for shard, count in one.missing.items():
            if whole or (injection.collection and shard != injection.shard):
                found.append(f"{name}, shard {shard}, which is not damaged: {count} answers are missing")
    missing = [one for one in damaged if one.missing or one.miscounts]
    if missing and not reported:
        found += [f"{one.missing} missing, {one.miscounts[:1]}, and nothing is reported" for one in missing]
    old = any(one.old for one in damaged)
    if injection.derived and injection.act not in (SWAPPED, SWAPPED_SHARDS):
        found += [
            f"{name} serves less: {one.missing} missing, {one.reported[:2]}"
            for name, one in seen.items()
            if name and (one.missing or not one.opened)
        ]
    effect = "reported" if reported else "logged" if seen[DIRECTORY].logged else SILENT if old else "without effect"
    outcome.counts[effect] += 1
    outcome.places[f"{injection.place}: {injection.act}", effect] += 1
    outcome.counts["mended by sending again"] += any(one.mended for one in damaged)
    outcome.violations += [f"injection {number}, {injection}: {problem}" for problem in found[:3]]


def look(path: Path, allowed: list[States]) -> dict[str, Seen] | str:
    """What a process that opens this directory finds there, or how the process ended before it could tell."""
    context = processes()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=probe, args=(path, allowed, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(TIMEOUT_S):
            return "process hung"
        seen: dict[str, Seen] = ours.recv()
        return seen
    except EOFError:
        process.join()
        code = process.exitcode or 0
        return f"process ended by {signal.Signals(-code).name}" if code < 0 else f"process ended with {code}"
    finally:
        process.kill()
        process.join()
        ours.close()


def inject(path: Path, estate: Estate, choose: random.Random) -> Injection:
    """Damage one file under `path`, a copy of the estate."""
    kind = choose.choices(["environment", "snapshot", "head"], [8, 3, 1])[0]
    if kind == "head":
        name = choose.choice(HEADS)
        return Injection(name, _bytes_act(path / name, 0, (path / name).stat().st_size, choose), None)
    number, of_shard = choose.randrange(len(COLLECTIONS)), choose.randrange(SHARDS)
    shard = SHARD.format(number + 1, of_shard)
    name = choose.choice(ENVIRONMENTS) if kind == "environment" else SNAPSHOT
    file = path / shard / name
    if choose.random() < WHOLE_SHARE:
        act = _whole_file(file, Path(shard, name), estate, choose)
        return Injection(name, act, COLLECTIONS[number], of_shard, older=act == SET_BACK)
    if kind == "snapshot":
        header = choose.random() < 0.4
        start, end = (0, SNAPSHOT_HEADER) if header else (SNAPSHOT_HEADER, file.stat().st_size)
        place = f"{name} {'header' if header else 'payload'}"
        return Injection(place, _bytes_act(file, start, end, choose), COLLECTIONS[number], of_shard)
    place, act, of_meta = _page_act(file, estate.older / shard / name, choose)
    return Injection(f"{name}, {place}", act, COLLECTIONS[number], of_shard, older=of_meta)


def _page_act(file: Path, older: Path, choose: random.Random) -> tuple[str, str, bool]:
    """Damage one page: of any kind, or of any table; return which, how, and whether it is one of the two meta pages."""
    pages = pages_in_use(file.read_bytes())
    if choose.random() < 0.5:
        table = choose.choice(sorted({page.table for page in pages}))
        pages_there = [page for page in pages if page.table == table]
    else:
        kind = choose.choice(sorted({page.kind for page in pages}))
        pages_there = [page for page in pages if page.kind == kind]
    page = choose.choice(pages_there)
    place, of_meta = f"{page.kind} page of {page.table}" if page.table else "meta page", page.kind == "meta"
    way = choose.random()
    if way < 0.1:
        other = choose.choice([other for other in pages if other != page])
        _overwrite(file, page.start, file.read_bytes()[other.start : other.start + PAGE])
        return place, "another page in the place", of_meta
    if way < 0.2 and older.stat().st_size >= page.start + PAGE:
        _overwrite(file, page.start, older.read_bytes()[page.start : page.start + PAGE])
        return place, "older page in the place", of_meta
    used = choose.choice(page.used)
    return place, _bytes_act(file, used.start, used.stop, choose), of_meta


def _bytes_act(file: Path, start: int, end: int, choose: random.Random) -> str:
    """Damage some of the bytes from `start` to `end`."""
    data = file.read_bytes()
    act = choose.choice(["flipped bit", "flipped bit", "flipped bits", "zeros", "noise"])
    if act in ("flipped bit", "flipped bits"):
        changed = bytearray(data)
        for _ in range(1 if act == "flipped bit" else choose.randint(2, 20)):
            changed[choose.randrange(start, end)] ^= 1 << choose.randrange(8)
        file.write_bytes(changed)
        return act
    at = choose.randrange(start, end)
    size = min(end - at, choose.choice([8, SECTOR, 8 * SECTOR]))
    _overwrite(file, at, bytes(size) if act == "zeros" else choose.randbytes(size))
    return act


def _whole_file(file: Path, name: Path, estate: Estate, choose: random.Random) -> str:
    """Damage a file as a whole; `name` is its path in a data directory."""
    act = choose.choice(["truncation", "truncation", EMPTIED, "removal", SWAPPED, SWAPPED_SHARDS, SET_BACK])
    if act == "truncation":
        size = choose.randrange(file.stat().st_size)
        with open(file, "r+b") as opened:
            opened.truncate(choose.choice([size, size // PAGE * PAGE]))
    elif act == EMPTIED:
        file.write_bytes(b"")
    elif act == "removal":
        file.unlink()
    elif act == SWAPPED:
        collections, number, *rest = name.parts
        shutil.copyfile(estate.now / collections / f"{3 - int(number):08}" / Path(*rest), file)
    elif act == SWAPPED_SHARDS:
        collections, number, shard, *rest = name.parts
        other = int(shard.rpartition("-")[2]) % (SHARDS - 1) + 1
        shutil.copyfile(estate.now / SHARD.format(int(number), other) / Path(*rest), file)
    else:
        shutil.copyfile(estate.older / name, file)
    return act


def _overwrite(file: Path, at: int, data: bytes) -> None:
    with open(file, "r+b") as opened:
        opened.seek(at)
        opened.write(data)
