"""The committed Python code is what the `.proto` files make."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_generated_code_is_current() -> None:
    pytest.importorskip("grpc_tools")
    ran = subprocess.run(
        [sys.executable, str(ROOT / "protos" / "generate.py"), "--check"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
