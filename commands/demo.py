"""`memory3 demo`: the main job from beginning to end, on a real server, with what the model really answers."""

import json as json_library
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ..client import Client
from ..model.prompts import UNKNOWN
from ..store.errors import FailedPrecondition, Unavailable
from ..store.types import Document
from .asking import Asked, ask_all, table_of_asked
from .options import EmbedderName, Json, ModelName
from .output import print_json

STOP_S = 30.0


def demo(
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", help="Directory to work in; default: a new one that is kept.", show_default=False),
    ] = None,
    model: ModelName = None,
    embedder: EmbedderName = None,
    json: Json = False,
) -> None:
    """Watch a model answer from text added a second ago, follow a change, and stop knowing what is deleted.

    Starts a server, adds the documents that come with Memory3, asks, changes a fact, asks again, deletes a document,
    and asks again. Every answer is printed as the model gave it.
    """
    folder = data or Path(tempfile.mkdtemp(prefix="memory3-demo-"))
    console = Console(stderr=json, highlight=False, quiet=json, width=None if sys.stdout.isatty() else 160)
    started = time.monotonic()
    with _server(folder, model, embedder, console) as address, Client(address) as client:
        report = Demo(client, console, started).run()
    if json:
        print_json(report)
    else:
        _print_next(console, folder, model, embedder)


class Demo:
    """The steps, each explained as it is taken."""

    def __init__(self, client: Client, console: Console, started: float) -> None:
        self._client = client
        self._console = console
        self._started = started
        self._seconds: dict[str, float] = {"start": time.monotonic() - started}
        self._plan = _plan()

    def run(self) -> dict[str, Any]:
        self._add()
        questions = self._questions()
        change = self._change()
        delete = self._delete()
        unknown = self._unknown()
        everything = [*questions, *change, *delete, *unknown]
        equal = sum(asked.equal for asked in everything)
        self._seconds["all"] = time.monotonic() - self._started
        self._say(
            f"{equal} of {len(everything)} answers equal the expected one. The first came "
            f"{self._seconds['first_answer']:.1f} s after the start, all of this took {self._seconds['all']:.1f} s."
        )
        return {
            "questions": [asdict(asked) for asked in questions],
            "change": [asdict(asked) for asked in change],
            "delete": [asdict(asked) for asked in delete],
            "unknown": [asdict(asked) for asked in unknown],
            "equal": equal,
            "asked": len(everything),
            "seconds": {name: round(value, 3) for name, value in self._seconds.items()},
        }

    def _add(self) -> None:
        documents = _documents()
        words = sum(len(document.text.split()) for document in documents)
        self._head(2, f"Adding {len(documents)} documents, {words} words about the invented harbour town Brackwater")
        self._say(
            "Each is cut into references of at most 128 tokens, embedded, and stored; each reference is a memory. No "
            "model has seen these texts before, and no weight of the model changes now."
        )
        started = time.monotonic()
        with self._working("adding"):
            results = self._client.upsert(documents)
        self._seconds["add"] = time.monotonic() - started
        memories = sum(result.memories for result in results)
        self._say(f"{memories} memories, on disk and searchable after {self._seconds['add']:.1f} s.")

    def _questions(self) -> list[Asked]:
        self._head(3, "Asking ten questions")
        self._say(
            "The five memories nearest to a question are found, the model turns them into key-values, and its own "
            "attention reads those. Their text is not in the prompt. The source is the document of the nearest one."
        )
        wanted = [(entry["question"], entry["answer"]) for entry in self._plan["questions"][:10]]
        return self._ask(wanted)

    def _change(self) -> list[Asked]:
        change = self._plan["change"]
        self._head(4, "Changing a fact")
        before = self._ask([(change["question"], change["before"])])
        key = change["document"]
        document = self._client.get(key)
        if document is None or change["old_sentence"] not in document.text:
            raise FailedPrecondition(f"document {key!r} is not the one that comes with Memory3; use an empty --data")
        self._say(f"Now {key} is added again. Instead of “{change['old_sentence']}” it says:")
        self._say(f"    “{change['new_sentence']}”")
        text = document.text.replace(change["old_sentence"], change["new_sentence"])
        started = time.monotonic()
        self._client.upsert(Document(key, text, document.metadata))
        self._say(f"Stored after {time.monotonic() - started:.2f} s. The old text is gone, the next question:")
        return before + self._ask([(change["question"], change["after"])])

    def _delete(self) -> list[Asked]:
        delete = self._plan["delete"]
        self._head(5, "Deleting a document")
        before = self._ask([(delete["question"], delete["before"])])
        receipt = self._client.delete(delete["document"])
        self._say(f"{delete['document']} is deleted: {receipt.memories} memories gone. The same question again:")
        return before + self._ask([(delete["question"], UNKNOWN)])

    def _unknown(self) -> list[Asked]:
        self._head(6, "Asking what no document says")
        return self._ask([(question, UNKNOWN) for question in self._plan["unknown"]])

    def _ask(self, questions: list[tuple[str, str]]) -> list[Asked]:
        with self._working("asking"):
            asked = list(self._each(questions))
        self._console.print(table_of_asked(asked))
        return asked

    def _each(self, questions: list[tuple[str, str]]) -> Iterator[Asked]:
        for asked in ask_all(self._client, questions):
            self._seconds.setdefault("first_answer", time.monotonic() - self._started)
            yield asked

    def _working(self, what: str) -> AbstractContextManager[object]:
        return self._console.status(what) if self._console.is_terminal else nullcontext()

    def _head(self, number: int, text: str) -> None:
        self._console.print(f"\n[bold]{number}. {escape(text)}[/bold]")

    def _say(self, text: str) -> None:
        self._console.print(escape(text))


@contextmanager
def _server(folder: Path, model: str | None, embedder: str | None, console: Console) -> Iterator[str]:
    """A server of its own process, as `memory3 serve` starts it; stopped at the end."""
    console.print(f"[bold]1. Starting a server on {escape(str(folder))}[/bold]")
    options = [*(["--model", model] if model else []), *(["--embedder", embedder] if embedder else [])]
    command = [sys.executable, "-m", "memory3.cli", "serve", "--json", "--listen", "127.0.0.1:0", "--data", str(folder)]
    started = time.monotonic()
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise Unavailable(f"the server did not start: {process.stderr.read().strip() or 'it said nothing'}")
        address = str(json_library.loads(line)["address"])
        seconds = time.monotonic() - started
        console.print(f"Store, embedder and model are in one process now; it listens on {address}, {seconds:.1f} s.")
        yield address
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _documents() -> list[Document]:
    folder = files("memory3") / "examples" / "harbour"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".md")), key=lambda entry: entry.name)
    return [Document(entry.name, entry.read_text(encoding="utf-8")) for entry in found]


def _plan() -> dict[str, Any]:
    plan: dict[str, Any] = json_library.loads((files("memory3") / "examples" / "questions.json").read_text("utf-8"))
    return plan


def _print_next(console: Console, folder: Path, model: str | None, embedder: str | None) -> None:
    options = [("--data", str(folder)), ("--model", model), ("--embedder", embedder)]
    with_data = " ".join(f"{name} {shlex.quote(value)}" for name, value in options[:1] if value)
    rest = " ".join(f"{name} {shlex.quote(value)}" for name, value in options if value)
    console.print("\n[bold]Try next[/bold] (the server is stopped; these open the directory themselves):")
    for command in (
        f'memory3 ask "Who conducts the Brackwater Brass Band?" {rest}',
        f'echo "Mira Sandoval sells honey on Saturdays." | memory3 add - --key mira {rest}',
        f'memory3 ask "When does Mira Sandoval sell honey?" {rest}',
        f"memory3 list {with_data}",
        f"memory3 serve {rest}",
        f"rm -r {shlex.quote(str(folder))}",
    ):
        console.print(f"    {escape(command)}", soft_wrap=True)
