"""The `memory3` command: puts the commands together, and turns errors into one clear line and an exit code.

Exit codes: 0 done, 1 failed (or `check` found problems, or `add` could not read something), 2 wrong usage,
130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import os
import signal
import sys
from importlib.metadata import version
from types import FrameType
from typing import Annotated, NoReturn

import typer

from .commands.add import add
from .commands.ask import ask, search
from .commands.backup import backup, compact, restore
from .commands.demo import demo
from .commands.documents import delete, get, list_documents
from .commands.evaluate import evaluate
from .commands.inspect import check, stats
from .commands.serve import serve
from .commands.train import train
from .commands.train_codec import train_codec
from .store.errors import InvalidArgument, Memory3Error

app = typer.Typer(
    name="memory3",
    help="Explicit memory for language models: add, change and delete what a model knows, live.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve)
app.command()(add)
app.command()(search)
app.command()(ask)
app.command()(get)
app.command()(delete)
app.command("list")(list_documents)
app.command()(stats)
app.command()(check)
app.command()(backup)
app.command()(restore)
app.command()(compact)
app.command()(train)
app.command()(train_codec)
app.command("eval")(evaluate)
app.command()(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memory3 {version('memory3')}")
        raise typer.Exit


@app.callback()
def _memory3(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line; never a traceback for what users, disks and networks do."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except Memory3Error as error:
        print(f"memory3: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, InvalidArgument) else 1) from None
    except BrokenPipeError:
        # The reader of our output went away (`| head`); Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    raise SystemExit(0)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Unwind as Ctrl-C does, so that the directory is closed in order."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
