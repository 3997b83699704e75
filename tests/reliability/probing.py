"""A look at a damaged directory, in a process of its own, because LMDB may end it."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ParamSpec, TypeVar

from memory3.store.collection import Collection
from memory3.store.directory import DataDirectory
from memory3.store.errors import Memory3Error
from memory3.store.types import Count, Hit, StoredDocument, Vector

from .content import FINGERPRINTS, document_of, embedded_of, texts_of, values_of, vector_of, version_in
from .estate import State, States

P = ParamSpec("P")
T = TypeVar("T")

PAGE = 25
K = 1_000
SCORE_TOLERANCE = 1e-5
SEQS_MAX = 2_000
FRESH = "fresh"
DIRECTORY = ""
"""The name under which the directory's own errors are told."""


@dataclass
class Seen:
    """What one collection answered.

    `wrong` is what it must never answer, an error that is not ours included; `missing` how many documents and hits
    were not answered, `old` how many documents as they were before, where that is allowed; `opened` whether it could
    be asked at all; `reported` each of our
    errors and each problem that `check` names; `logged` what only the log tells, as damage to a thing that is built
    again; `mended` whether sending the documents again made all well.
    """

    wrong: list[str] = field(default_factory=list)
    missing: int = 0
    old: int = 0
    opened: bool = False
    reported: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    mended: bool = False

    def of(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T | None:
        """Call, and note an error instead of raising it."""
        try:
            return call(*arguments, **named)
        except Memory3Error as error:
            self.reported.append(f"{type(error).__name__}: {error}")
        except Exception as error:
            self.wrong.append(f"an error that is none of ours: {error!r}")
        return None


def probe(path: Path, allowed: list[States], parent: Connection) -> None:
    """Tell the parent what each collection answers, as `Seen` by name; `allowed` are the states that may stand."""
    names = sorted(allowed[0])
    seen = {name: Seen() for name in [DIRECTORY, *names]}
    logging.basicConfig(handlers=[_Listed(seen[DIRECTORY].logged)], force=True)
    directory = seen[DIRECTORY].of(DataDirectory.open, path)
    if directory is not None:
        for name in names:
            collection = seen[name].of(directory.collection, name)
            if collection is not None:
                seen[name].opened = True
                _Probe(collection, [states[name] for states in allowed], seen[name]).run()
        seen[DIRECTORY].of(directory.close)
    parent.send(seen)
    parent.close()


class _Listed(logging.Handler):
    """Keeps what is logged in a list."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


class _Probe:
    """Everything that can be asked of one collection."""

    def __init__(self, collection: Collection, allowed: list[State], seen: Seen) -> None:
        self._collection = collection
        self._allowed = allowed
        self._seen = seen
        self._whole: dict[str, StoredDocument] = {}
        """The documents that were answered as they should be."""

    def run(self) -> None:
        seen, collection = self._seen, self._collection
        listed = list(self._listed())
        keys = sorted({key for state in self._allowed for key in state.versions})
        got = [(seen.of(collection.get, [key]) or [None])[0] for key in keys]
        for answers in (listed, [document for document in got if document is not None]):
            for document in answers:
                self._judge(document)
            seen.missing += max(0, min(len(state.versions) for state in self._allowed) - len(answers))
        live = {
            seq: text
            for document in self._whole.values()
            for seq, text in zip(document.memories, texts_of(document.key, version_in(document.text)), strict=False)
        }
        count = seen.of(collection.count)
        if count is not None and count not in [Count(len(s.versions), len(s.memories)) for s in self._allowed]:
            seen.missing += 1
        self._recall(live)
        self._fetch()
        report = seen.of(collection.check, full=True)
        seen.reported += [f"check: {problem}" for problem in (report.problems if report else ())]
        if seen.reported:
            seen.mended = bool(Seen().of(self._mend))

    def _listed(self) -> Iterator[StoredDocument]:
        token: str | None = ""
        while token is not None:
            page = self._seen.of(self._collection.list, PAGE, token)
            yield from page.documents if page else ()
            token = page.next_page_token or None if page else None

    def _judge(self, document: StoredDocument) -> None:
        version = version_in(document.text)
        expected = document_of(document.key, version)
        if version not in self._versions(document.key):
            self._seen.wrong.append(f"{document.key!r} is served as version {version!r}")
        elif (document.text, dict(document.metadata)) != (expected.text, expected.metadata):
            self._seen.wrong.append(f"{document.key!r} is served as {document.text[:60]!r} with {document.metadata}")
        else:
            self._whole[document.key] = document
            self._seen.old += version != self._allowed[0].versions.get(document.key)

    def _recall(self, live: dict[int, str]) -> None:
        for text in [*list(live.values())[:1], "anything"]:
            query = vector_of(text)
            hits = (self._seen.of(self._collection.recall, query[None], K) or [[]])[0]
            self._seen.wrong += [problem for hit in hits for problem in self._wrong_hit(hit, query)]
            self._seen.missing += max(0, len(live) - len(hits))

    def _wrong_hit(self, hit: Hit, query: Vector) -> Iterator[str]:
        version = version_in(hit.text)
        if version not in self._versions(hit.key) or hit.text not in texts_of(hit.key, version):
            yield f"recall gives {hit.text[:60]!r} of {hit.key!r}"
        elif abs(hit.score - float(vector_of(hit.text) @ query)) > SCORE_TOLERANCE:
            yield f"recall gives {hit.text[:60]!r} the score {hit.score}"
        elif dict(hit.metadata) != {"version": version}:
            yield f"recall gives {hit.key!r} the metadata {hit.metadata}"

    def _fetch(self) -> None:
        """Key-values may be missing at any time, as they are derived: what counts is that none is wrong."""
        stats = self._seen.of(self._collection.stats)
        last = min(stats.positions[0] if stats else 0, SEQS_MAX) + 50
        for fingerprint in FINGERPRINTS:
            for seq, value in self._values(fingerprint, range(1, last)):
                texts = {state.memories.get(seq, "") for state in self._allowed}
                if value is not None and value not in {values_of(fingerprint, seq, text) for text in texts if text}:
                    self._seen.wrong.append(f"the key-values of seq {seq} of {fingerprint!r} are wrong")

    def _values(self, fingerprint: str, seqs: range) -> Iterator[tuple[int, bytes | None]]:
        found = self._seen.of(self._collection.fetch_key_values, fingerprint, seqs)
        if found is not None:
            yield from zip(seqs, found, strict=True)
            return
        for seq in seqs:
            found = self._seen.of(self._collection.fetch_key_values, fingerprint, [seq])
            yield seq, found[0] if found else None

    def _mend(self) -> bool:
        collection = self._collection
        collection.upsert([embedded_of(FRESH, "1")])
        (fresh,) = collection.get([FRESH])
        assert fresh is not None
        for fingerprint in FINGERPRINTS:
            if any(collection.fetch_key_values(fingerprint, fresh.memories)):
                self._seen.wrong.append(f"key-values of {fingerprint!r} stand for a memory that has just been made")
        collection.delete([FRESH])
        versions = self._allowed[0].versions
        lost = [key for key in versions if key not in self._whole]
        collection.delete(lost)
        collection.upsert([embedded_of(key, versions[key]) for key in lost])
        return not collection.check(full=True).problems

    def _versions(self, key: str) -> set[str | None]:
        return {state.versions.get(key) for state in self._allowed} - {None}
