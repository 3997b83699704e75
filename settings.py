"""All configuration of the `memory3` command: environment variables `MEMORY3_…`, a TOML file, and defaults.

Read once, at the edge, and passed on as arguments. The environment wins over the file, the command line over both.
The file is named by `MEMORY3_CONFIG`; a key in it that is not listed here is an error.
"""

import os
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from .store.errors import InvalidArgument

CONFIG_VARIABLE = "MEMORY3_CONFIG"


def default_data_folder() -> Path:
    """`$XDG_DATA_HOME/memory3`: the same wherever the command is typed."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "memory3"


class Settings(BaseSettings):
    """The settings, each with its default and its bounds."""

    model_config = SettingsConfigDict(env_prefix="MEMORY3_", extra="forbid")

    data: Path = Field(default_factory=default_data_folder, description="data directory")
    collection: str = Field(default="default", description="collection that commands work on")
    server: str | None = Field(default=None, description="address of a running server, host:port")
    listen: str = Field(default="127.0.0.1:7333", description="address of `serve`; port 0 takes a free one")
    embedder: str | None = Field(default=None, description="sentence-transformers name or folder; none: the packaged")
    model: str | None = Field(default=None, description="Hugging Face name or folder; none: the packaged tiny model")
    device: str = Field(default="cpu", description="torch device of the model")
    threads: int = Field(default=1, ge=1, le=256, description="torch threads of a process")
    timeout_s: float = Field(default=120.0, gt=0, description="time for one call of the client")
    message_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=1 << 30, description="size of one gRPC message")
    workers: int = Field(default=64, ge=2, le=1024, description="calls that the server works on at once")
    generations_max: int = Field(default=16, ge=1, le=256, description="generations that run together")
    generations_waiting_max: int = Field(default=32, ge=0, le=1024, description="generations that may wait")
    context_tokens_max: int = Field(default=65_536, ge=256, description="tokens of all generations that run together")
    pool_memories: int = Field(default=1_024, ge=128, description="memories that the model holds on its device")
    pool_ram_bytes: int = Field(default=256 << 20, ge=0, description="bytes of key-values held in RAM behind these")
    watches_max: int = Field(default=8, ge=1, le=1024, description="callers that may watch changes at once")
    shards: int = Field(default=1, ge=1, le=64, description="shards of a new default collection")
    bytes_max: int | None = Field(default=None, ge=1 << 20, description="bytes on disk that a collection may take")
    key_values_bytes_max: int | None = Field(
        default=None, ge=1 << 20, description="bytes of key-values that a collection may take; the least read make room"
    )
    stop_grace_s: float = Field(default=10.0, ge=0, description="time that running calls get when the server stops")

    @model_validator(mode="after")
    def _workers_for_other_calls(self) -> Self:
        """A generation holds a worker while it runs and while it waits, and so does a watch."""
        if self.generations_max + self.generations_waiting_max + self.watches_max >= self.workers:
            raise ValueError(
                "generations_max, generations_waiting_max and watches_max together must leave workers for other calls"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        config = os.environ.get(CONFIG_VARIABLE)
        if config is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(config))


def load_settings() -> Settings:
    """Read the environment and the file.

    Raises:
        InvalidArgument: a value is out of bounds, a key unknown, or the file missing or not TOML.
    """
    config = os.environ.get(CONFIG_VARIABLE)
    if config is not None and not Path(config).is_file():
        raise InvalidArgument(f"{CONFIG_VARIABLE} names {config}, which is not a file")
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(": ".join([*map(str, problem["loc"]), problem["msg"]]) for problem in error.errors())
        raise InvalidArgument(f"the configuration cannot be used: {problems}") from error
    except ValueError as error:
        raise InvalidArgument(f"{config} is not TOML: {error}") from error
