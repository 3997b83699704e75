"""Settings come from the environment and a file, typed and bounded; an unknown key is an error."""

from pathlib import Path

import pytest
from memory3.settings import Settings, load_settings
from memory3.store.errors import InvalidArgument


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "memory3.toml"
    monkeypatch.setenv("MEMORY3_CONFIG", str(path))
    return path


def test_defaults_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    monkeypatch.delenv("MEMORY3_DATA", raising=False)
    settings = load_settings()
    assert settings.data == Path("/somewhere/memory3") and settings.collection == "default"


def test_the_environment_wins_over_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('workers = 80\ncollection = "books"\n')
    monkeypatch.setenv("MEMORY3_COLLECTION", "letters")
    settings = load_settings()
    assert (settings.workers, settings.collection) == (80, "letters")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lisen = 'a'", "lisen: Extra inputs are not permitted"),
        ("workers = 0", "workers: Input should be greater than or equal to 2"),
        ("timeout_s = 'long'", "timeout_s"),
        ("workers = [", "is not TOML"),
        ("workers = 8\ngenerations_max = 7", "leave workers for other calls"),
    ],
)
def test_a_bad_file_is_refused(config: Path, content: str, message: str) -> None:
    config.write_text(content)
    with pytest.raises(InvalidArgument, match=message):
        load_settings()


def test_a_missing_file_is_refused(config: Path) -> None:
    with pytest.raises(InvalidArgument, match="not a file"):
        load_settings()


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
