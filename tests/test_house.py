"""What holds of the repository as a whole: what the README promises runs, what is listed is what is there."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import memory3
import pytest
import typer.main
from memory3.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMMANDS: Any = typer.main.get_command(app)
NOT_IN_THE_PACKAGE = {"bench", "build", "dist", "docs", "runs", "tests"}
DATA_FOLDERS = {"memory3.examples", "memory3.examples.harbour", "memory3.model.tiny"}
PUBLIC = {
    *("connect", "open", "restore"),
    *("Answer", "AnswerStream", "ChunkExplanation", "Explained", "Explaining", "Finished", "GenerationEvent"),
    *("ReadMemory", "Recalled", "Text"),
    *("BackupReport", "CheckReport", "CollectionBackup", "CollectionInfo", "CollectionStats", "CompactReport", "Count"),
    *("Change", "ChangeStream", "DeleteReceipt", "Document", "Hit", "Hits", "IndexKind", "IndexState"),
    *("MemoryReads", "Page", "Quotas", "StoredDocument", "UpsertResult"),
    *("Aborted", "AlreadyExists", "Cancelled", "Corrupted", "DeadlineExceeded", "DirectoryInUse", "FailedPrecondition"),
    *("FingerprintMismatch", "InvalidArgument", "Memory3Error", "NotFound", "ResourceExhausted", "Unavailable"),
    "UnsupportedFormat",
}


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def tracked() -> list[Path]:
    ran = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True)
    if ran.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in ran.stdout.split("\0") if name and (ROOT / name).is_file()]


def run(command: list[str], folder: Path, data: Path) -> str:
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": binaries, "MEMORY3_DATA": str(data), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("example", blocks("python"))
def test_the_readme_s_python_runs(example: str, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(example)
    printed = run([sys.executable, "example.py"], tmp_path, tmp_path / "unused")
    assert "mira: Mira Sandoval keeps bees" in printed
    assert "deleted=('mira',)" in printed


@pytest.mark.parametrize("example", blocks("console"))
def test_the_readme_s_commands_run(example: str, tmp_path: Path) -> None:
    lines = [line.removeprefix("$ ") for line in example.splitlines() if line.startswith("$ ")]
    assert len(lines) >= 3
    printed = run(["sh", "-e", "-c", "\n".join(lines)], ROOT, tmp_path / "data")
    assert "documents added" in printed
    assert "1 documents deleted" in printed


@pytest.mark.parametrize("command", sorted(COMMANDS.commands))
def test_every_command_is_documented(command: str) -> None:
    documents = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))]
    assert any(f"memory3 {command}" in text for text in documents)
    assert COMMANDS.commands[command].help


def test_the_readme_s_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []


def test_the_changelog_tells_of_this_version() -> None:
    version = PROJECT["project"]["version"]
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)


def test_the_public_surface_is_what_is_listed() -> None:
    assert set(memory3.__all__) == PUBLIC
    assert memory3.__all__ == sorted(memory3.__all__)
    assert all(getattr(memory3, name) is not None for name in PUBLIC)


def test_every_package_is_installed() -> None:
    folders = {path.parent.relative_to(ROOT) for path in tracked() if path.name == "__init__.py"}
    found = {".".join(["memory3", *folder.parts]) for folder in folders if folder.parts[:1] != ("tests",)}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(found | DATA_FOLDERS)


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.relative_to(ROOT).parent for path in tracked() if path.suffix == ".py"}
    bare = [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").exists()]
    assert [name for name in bare if Path(name).parts[0] not in NOT_IN_THE_PACKAGE] == []


def test_client_and_command_line_need_no_heavy_library() -> None:
    heavy = ["torch", "transformers", "tokenizers", "sentence_transformers", "faiss", "lmdb", "pyroaring", "xxhash"]
    code = f"import sys; sys.modules.update(dict.fromkeys({heavy})); import memory3.client, memory3.cli"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {_name(line) for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line)}
    assert len(pins) == sum(not line.startswith("#") for line in lines)
    extras = PROJECT["project"]["optional-dependencies"]
    of_extras = [one for name in ("serving", "server", "cluster", "dev") for one in extras[name]]
    assert {_name(one) for one in [*PROJECT["project"]["dependencies"], *of_extras]} - {"memory3"} - pins == set()


def test_nothing_names_a_folder_of_one_machine() -> None:
    private = re.compile(rb"(?<![\w.])/(?:" + b"|".join([b"work", b"root", b"home", b"Users"]) + rb")/")
    found = [path for path in tracked() if private.search(path.read_bytes())]
    assert [str(path.relative_to(ROOT)) for path in found] == []


def _name(requirement: str) -> str:
    """The distribution's name, as indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]*\w", requirement)[0]).lower()  # type: ignore[index]
