"""`memory3 add` where it cannot go on: what is stored and what is not is said, and nothing is tried in vain."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from memory3.cli import app
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server, ServerLimits
from memory3.model.embedder import Embedder
from memory3.store import limits
from memory3.store.errors import ResourceExhausted
from memory3.store.types import Document, UpsertResult
from typer.testing import CliRunner, Result

FILES = 120
STORE_BYTES = 2 << 20
"""Room for some of them."""


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts embedded so far; all as one unit vector, so that a test can fill a store without waiting."""
    texts: list[str] = []
    unit = np.eye(384, dtype=np.float32)[1]

    def embed(self: Embedder, batch: Sequence[str]) -> npt.NDArray[np.float32]:
        texts.extend(batch)
        return np.tile(unit, (len(batch), 1))

    monkeypatch.setattr(Embedder, "embed", embed)
    return texts


@pytest.fixture
def small_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is opened within it is full long before all files are in."""
    with monkeypatch.context() as patched:
        patched.setattr(limits, "RECORDS_BYTES_MAX", STORE_BYTES)
        patched.setattr(limits, "BYTES_RESERVED", STORE_BYTES // 8)
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    for number in range(FILES):
        (made / f"{number:03}.md").write_text(" ".join(f"Fact {number} of {line}." for line in range(150)))
    return made


def add(*arguments: object, code: int = 0) -> Result:
    ran = CliRunner().invoke(app, ["add", *map(str, arguments)], catch_exceptions=False)
    assert ran.exit_code == code, ran.output
    return ran


def report_of(ran: Result) -> Any:
    return json.loads(ran.stdout)


@pytest.mark.usefixtures("small_store")
@pytest.mark.parametrize("over_grpc", [False, True], ids=["embedded", "over gRPC"])
def test_add_stops_when_the_store_is_full(
    over_grpc: bool, tmp_path: Path, folder: Path, random_model: str, embedded: list[str]
) -> None:
    """It went on through all files that were left, and embedded each of them twice, in vain."""
    data = tmp_path / "data"
    if over_grpc:
        with Embedded(data, model=random_model) as memory, Server(memory, write_in_background=False) as server:
            ran = add(folder, "--server", server.address, "--json", code=1)
    else:
        ran = add(folder, "--data", data, "--model", random_model, "--json", code=1)
    report = report_of(ran)
    names = [f"{number:03}.md" for number in range(FILES)]
    added = report["added"]
    with Embedded(data, model=random_model) as memory:
        stands = [document is not None for document in memory.get(names)]
        assert memory.count().memories == report["memories"]
        assert memory.check(full=True).ok
    assert 0 < added < FILES and stands == [True] * added + [False] * (FILES - added)
    assert Path(report["stopped"]["name"]).name == names[added]
    assert "no space is left" in report["stopped"]["reason"] and report["failed"] == []
    assert len(embedded) == len(set(embedded)), "a text was embedded twice"
    assert "stopped at" in ran.stderr and names[added] in ran.stderr and "was added" in ran.stderr


def test_the_same_add_goes_on_when_there_is_space(
    tmp_path: Path, folder: Path, random_model: str, embedded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [folder, "--data", tmp_path / "data", "--model", random_model]
    with monkeypatch.context() as patched:
        patched.setattr(limits, "RECORDS_BYTES_MAX", STORE_BYTES)
        patched.setattr(limits, "BYTES_RESERVED", STORE_BYTES // 8)
        added = report_of(add(*options, "--json", code=1))["added"]
        # A second try in the same state adds nothing, and says so.
        assert added > 0
        again = report_of(add(*options, "--json", code=1))
        assert (again["added"], again["unchanged"]) == (0, added)
        assert "0 documents added" in add(*options, code=1).stdout
    rest = report_of(add(*options, "--json"))
    assert (rest["added"], rest["unchanged"], rest["stopped"]) == (FILES - added, added, None)


def test_what_a_refused_call_had_stored_is_counted(
    tmp_path: Path, folder: Path, random_model: str, embedded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call takes several transactions: those before the one without space stand, though it answered for none."""
    options = ["--data", tmp_path / "data", "--model", random_model]
    add(folder / "001.md", *options)
    upsert = Embedded.upsert

    def upsert_five(self: Embedded, documents: list[Document], **others: Any) -> list[UpsertResult]:
        upsert(self, documents[:5], **others)
        raise ResourceExhausted("no space is left")

    monkeypatch.setattr(Embedded, "upsert", upsert_five)
    report = report_of(add(folder, *options, "--json", code=1))
    with Embedded(tmp_path / "data", model=random_model) as memory:
        count, one = memory.count(), memory.get("001.md")
    assert one is not None
    assert (report["added"], report["unchanged"], count.documents) == (4, 1, 5)
    assert report["memories"] == count.memories - len(one.memories)
    assert Path(report["stopped"]["name"]).name == "005.md"


def test_a_file_too_large_for_a_message_is_named_and_the_others_go_on(
    tmp_path: Path, random_model: str, embedded: list[str]
) -> None:
    for name, size in (("a", 10), ("b", 1 << 20), ("c", 10)):
        (tmp_path / f"{name}.md").write_text("x" * size)
    with (
        Embedded(tmp_path / "data", model=random_model) as memory,
        Server(memory, limits=ServerLimits(message_bytes_max=1 << 20), write_in_background=False) as server,
    ):
        report = report_of(add(*sorted(tmp_path.glob("*.md")), "--server", server.address, "--json", code=1))
    assert (report["added"], report["stopped"]) == (2, None)
    assert [Path(failed["name"]).name for failed in report["failed"]] == ["b.md"]
    assert "over the size limit" in report["failed"][0]["reason"]
