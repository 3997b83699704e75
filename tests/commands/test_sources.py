"""Files, folders and lines become documents; what cannot be read is named with its reason, the rest goes on."""

import errno
import io
import os
from pathlib import Path

import pytest
from memory3.commands.html import text_of_html
from memory3.commands.sources import (
    Bad,
    File,
    Found,
    document_of_stream,
    documents_of_files,
    documents_of_lines,
    files_of,
)


def read(*paths: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Texts by key, and reasons by name of file."""
    sources = list(documents_of_files(files_of(paths)))
    found = {source.document.key: source.document.text for source in sources if isinstance(source, Found)}
    return found, {Path(source.name).name: source.reason for source in sources if isinstance(source, Bad)}


def test_a_folder_gives_its_documents_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b.md").write_text("# B")
    (tmp_path / "deep" / "a.txt").write_text("A", encoding="utf-8-sig")
    (tmp_path / "deep" / "er" / "page.HTML").write_text("<p>Hello</p>")
    (tmp_path / "ignored.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden" / "c.md").write_text("C")
    (tmp_path / "lines.jsonl").write_text('{"key": "one", "text": "1", "metadata": {"n": 1}}\n\n')
    found, bad = read(tmp_path)
    assert found == {"b.md": "# B", "deep/a.txt": "A", "deep/er/page.HTML": "Hello", "one": "1"}
    assert not bad


def test_a_file_named_itself_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "NOTES").write_text("Remember.")
    assert read(tmp_path / "NOTES") == ({"NOTES": "Remember."}, {})


def test_bad_files_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes("Grüße".encode("latin-1"))
    (tmp_path / "empty.txt").write_text("  \n")
    (tmp_path / "good.txt").write_text("Good.")
    found, bad = read(tmp_path, tmp_path / "missing.md", Path(os.devnull))
    assert found == {"good.txt": "Good."}
    assert bad == {
        "bad.txt": "not UTF-8 at byte 2; convert it first",
        "empty.txt": "it holds no text",
        "missing.md": "no such file or folder",
        "null": "not a file",
    }


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(65 << 20)
    assert "cut it into several" in read(tmp_path)[1]["huge.txt"]


def test_a_page_that_cannot_be_parsed_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    """Such a page once ended `memory3 add` with a traceback, and what came behind it was not added."""
    (tmp_path / "a.html").write_text("<p>Before.</p><![foo[ x ]]><p>After.</p>")
    (tmp_path / "b.html").write_text("<p>Good.</p>")
    found, bad = read(tmp_path)
    assert found == {"b.html": "Good."}
    assert "not HTML" in bad["a.html"] and "mend it" in bad["a.html"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was left out without a word, and the exit code said that all was added."""
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").write_text(name)
    scan = os.scandir

    def refuse(path: Path) -> object:
        # Not by chmod: who runs the tests may be root, to whom every folder is open.
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reason = "the folder cannot be read: Permission denied"
    assert read(tmp_path) == ({"open/a.md": "open"}, {"closed": reason})
    assert read(tmp_path / "closed") == ({}, {"closed": reason})


def test_a_path_that_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    """It ended in a traceback, as did a file in a folder that is closed to us."""
    name = "x" * 5_000
    assert read(tmp_path / name) == ({}, {name: "File name too long"})


def test_two_files_with_one_key(tmp_path: Path) -> None:
    """Of two folders that both hold README.md the second must not silently replace the first."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(name)
    found, bad = read(tmp_path / "one", tmp_path / "two")
    assert found == {"README.md": "one"} and "already that of" in bad["README.md"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nonsense", "not JSON"),
        (b"[1]", "not an object"),
        (b'{"key": "k"}', "key and text must both be there"),
        (b'{"key": 1, "text": "t"}', "key and text must both be there"),
        (b'{"key": "k", "text": "t", "metadata": 3}', "metadata must be an object"),
        (b'{"key": "k", "text": "t", "txet": "t"}', "unknown field 'txet'"),
        (b'{"key": "k", "text": " "}', "holds no text"),
        (b'{"key": "\xff", "text": "t"}', "not UTF-8 at byte 9"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_line_is_named_by_its_number(line: bytes, reason: str) -> None:
    good = b'{"key": "k", "text": "t"}'
    sources = list(documents_of_lines([good, b"", line], "some.jsonl"))
    assert isinstance(sources[0], Found)
    assert isinstance(sources[1], Bad) and sources[1].name == "some.jsonl:3" and reason in sources[1].reason


def test_a_stream_is_one_document() -> None:
    (source,) = document_of_stream(io.BytesIO(b"Some text"), "note")
    assert isinstance(source, Found) and (source.document.key, source.document.text) == ("note", "Some text")


def test_files_are_named_with_their_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("four")
    assert files_of([tmp_path]) == [File(tmp_path / "a.md", "a.md", 4)]


def test_html_reads_as_it_looks() -> None:
    page = """<html><head><title>Bees &amp; us</title><style>p {}</style><script>var a;</script></head><body>
    <h1>Bees</h1><p>Mira   keeps
    <b>many</b> bees.</p><p>One<br>two</p><ul><li>x<li>y</ul><noscript>no</noscript></body>"""
    text = text_of_html(page.encode())
    assert text == "Bees & us\n\nBees\n\nMira keeps many bees.\n\nOne\ntwo\n\nx\ny"
    assert "größe" in text_of_html('<meta charset="latin-1"><p>größe'.encode("latin-1"))
