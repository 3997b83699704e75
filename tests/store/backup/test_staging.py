import os
import subprocess
import sys
from pathlib import Path

import pytest
from memory3.store.backup.staging import check_space, staged
from memory3.store.errors import FailedPrecondition, ResourceExhausted

NAMES = frozenset({"content"})


def test_a_directory_stands_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with staged(target, NAMES) as folder:
        (folder / "content").write_text("text")
        assert not target.exists()
    assert (target / "content").read_text() == "text"
    with pytest.raises(KeyError), staged(tmp_path / "other", NAMES):
        raise KeyError
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_two_do_not_make_the_same(tmp_path: Path) -> None:
    with staged(tmp_path / "target", NAMES) as folder:
        (folder / "content").touch()
        with pytest.raises(FailedPrecondition, match="just being made"), staged(tmp_path / "target", NAMES):
            pass
        assert (folder / "content").exists()
    assert (tmp_path / "target" / "content").exists()


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    killed = """if True:
        import os, sys
        from pathlib import Path
        from memory3.store.backup.staging import staged
        with staged(Path(sys.argv[1]), frozenset({"content"})) as folder:
            (folder / "content").touch()
            os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", killed, str(tmp_path / "target")]
    assert subprocess.run(command, timeout=60).returncode == -9
    assert os.listdir(tmp_path) == ["target.tmp"]
    with staged(tmp_path / "target", NAMES) as folder:
        assert os.listdir(folder) == []
    assert os.listdir(tmp_path) == ["target"]


def test_a_target_taken_meanwhile_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"

    def taken() -> None:
        with staged(target, NAMES):
            target.mkdir()
            (target / "theirs").touch()

    with pytest.raises(FailedPrecondition, match="holds 'theirs'"):
        taken()
    assert os.listdir(tmp_path) == ["target"] and os.listdir(target) == ["theirs"]


def test_a_disk_too_small_is_not_filled(tmp_path: Path) -> None:
    check_space(tmp_path, 1)
    with pytest.raises(ResourceExhausted, match="bytes free and 1152921504606846976 are needed"):
        check_space(tmp_path, 1 << 60)
