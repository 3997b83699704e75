"""Questions put to a server one after the other, and the table of what it answered."""

import re
import string
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table

from ..client import Client
from .output import plain

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation + "\u2018\u2019\u201c\u201d")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what was answered and expected, the documents read (nearest first), and the seconds it took."""

    question: str
    answer: str
    expected: str
    equal: bool
    sources: tuple[str, ...]
    seconds: float


def ask_all(client: Client, questions: Iterable[tuple[str, str]]) -> Iterator[Asked]:
    """Ask each (question, expected answer)."""
    for question, expected in questions:
        started = time.monotonic()
        with client.ask(question) as stream:
            answer = stream.result()
        seconds = time.monotonic() - started
        sources = tuple(dict.fromkeys(hit.key for hit in answer.memories))
        yield Asked(question, answer.text, expected, _normal(answer.text) == _normal(expected), sources, seconds)


def table_of_asked(asked: Sequence[Asked]) -> Table:
    table = Table("question", "answer", "expected", "equal", "source", "seconds")
    for one in asked:
        equal = "[green]yes[/green]" if one.equal else "[red]no[/red]"
        source = one.sources[0] if one.sources else "none"
        row = (plain(one.question), plain(one.answer), plain(one.expected), equal, plain(source), f"{one.seconds:.2f}")
        table.add_row(*row)
    return table


def _normal(answer: str) -> str:
    """As SQuAD compares answers: without case, punctuation and articles."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())
