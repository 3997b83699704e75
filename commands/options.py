"""The options that commands share, and what they come to together with the settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from ..settings import Settings, load_settings
from ..store.filters.parser import filter_from_json

Data: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--data", "-d", help="Data directory [MEMORY3_DATA; default ~/.local/share/memory3].", show_default=False
    ),
]
ServerAddress: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--server",
        "-s",
        metavar="HOST:PORT",
        help="Server to use [MEMORY3_SERVER]. Without it: the one that runs on the data directory, else no server.",
        show_default=False,
    ),
]
CollectionName: TypeAlias = Annotated[
    str | None,
    typer.Option("--collection", "-c", help="Collection [MEMORY3_COLLECTION; default default].", show_default=False),
]
ModelName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Hugging Face name or folder of the model [MEMORY3_MODEL; default: packaged].",
        show_default=False,
    ),
]
EmbedderName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        help="sentence-transformers name or folder [MEMORY3_EMBEDDER; default: packaged].",
        show_default=False,
    ),
]
FilterText: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="JSON",
        help='Only documents whose metadata match, such as \'{"year": {"$gte": 2000}}\' (docs/filters.md).',
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def filter_of(text: str | None) -> Mapping[str, Any] | None:
    """The filter that was typed, not yet checked.

    Raises:
        InvalidArgument: it is no JSON object.
    """
    return None if text is None else filter_from_json(text)


@dataclass(frozen=True, slots=True)
class Target:
    """What a command works on."""

    settings: Settings
    collection: str

    @classmethod
    def of(
        cls,
        data: Path | None,
        server: str | None,
        collection: str | None,
        *,
        model: str | None = None,
        embedder: str | None = None,
    ) -> "Target":
        """The settings, overruled by what was given on the command line."""
        given = {"data": data, "server": server, "collection": collection, "model": model, "embedder": embedder}
        settings = load_settings().model_copy(
            update={name: value for name, value in given.items() if value is not None}
        )
        return cls(settings, settings.collection)
