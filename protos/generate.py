"""Make the Python code of the `.proto` files, or with `--check` compare it with what is committed.

`protoc` writes `from memory3.v1 import types_pb2`, as if the proto package were the Python package; here the code
lives in `memory3.protos.memory3.v1`, so such imports are made relative. Its `.pyi` files name `Mapping` without saying
of what, which strict type checking refuses. Services need no generated code: client and server read them from the
descriptors (`wire/methods.py`).
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGE = Path("memory3/v1")
_ABSOLUTE_IMPORT = re.compile(r"^from memory3\.v1 import (\w+_pb2)", flags=re.MULTILINE)
_BARE_MAPPING = re.compile(r"\b_Mapping\]")


def generate(out: Path) -> dict[str, str]:
    """Run protoc into the empty folder `out` and return the finished files, text by name."""
    from grpc_tools import protoc

    protos = sorted(str(path.relative_to(ROOT)) for path in (ROOT / PACKAGE).glob("*.proto"))
    arguments = ["protoc", f"--proto_path={ROOT}", f"--python_out={out}", f"--pyi_out={out}", *protos]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed; its message is above")
    made = sorted((out / PACKAGE).iterdir())
    return {path.name: _finished(path.read_text()) for path in made}


def _finished(code: str) -> str:
    return _BARE_MAPPING.sub("_Mapping[str, object]]", _ABSOLUTE_IMPORT.sub(r"from . import \1", code))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when committed code differs")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as out:
        files = generate(Path(out))
    committed = ROOT / PACKAGE
    stale = {name for name, text in files.items() if _text_of(committed / name) != text}
    stale |= {path.name for path in committed.glob("*_pb2*") if path.name not in files}
    if check:
        for name in sorted(stale):
            print(f"{committed / name} is not what its .proto makes; run python protos/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        if name in files:
            (committed / name).write_text(files[name])
        else:
            (committed / name).unlink()
    return 0


def _text_of(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    raise SystemExit(main())
