"""Short form of the fuzzers; the long one is `python bench/reliability.py --only fuzz`."""

import dis
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import memory3
import pytest
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.tests.reliability.decoders import fuzz_decoders
from memory3.tests.reliability.requests import fuzz_requests
from memory3.wire.methods import GENERATION_SERVICE, MEMORY_SERVICE

ROOT = Path(memory3.__file__).parent
PACKAGES = ["store", "wire", "model", "commands", "cluster"]
"""Of the repository, those that read what lies on a disk or was sent by others."""
NAMED = "decode_"
READING = {
    *("frombuffer", "fromfile", "from_bytes", "unpack", "unpack_from", "iter_unpack", "loads", "FromString"),
    *("ParseFromString", "pread", "read_bytes", "read_text", "readline", "readinto", "load_file", "safe_open"),
}
"""What reads bytes or files is called one of these, or is the global `open`; `load` and `read` would name much else."""
FOUND_BY_NO_RULE = {
    # The index is made of a snapshot that was decoded before.
    "store/index/vector_index.py:VectorIndex.load",
}
NOT_FUZZED = {
    # Its own bytes, or those of the package.
    "commands/demo.py:_documents",
    "commands/demo.py:_plan",
    "commands/demo.py:_server",
    "model/engine/transfer.py:packed",
    "model/training/names.py:in_split",
    # What it writes or copies, as bytes that it takes for nothing else.
    "model/training/codebooks.py:save",
    "store/backup/back_up.py:_described",
    "store/backup/copying.py:FrozenEnvironment.pieces",
    "store/backup/restore.py:_pieces",
    "store/backup/writing.py:write_copy",
    "store/disk/environment.py:Environment.replace_data",
    "store/disk/walk.py:_visit",
    # What training reads, which nobody serves: of another form it ends the run.
    "model/training/natural.py:QuestionSet.__init__",
    "model/training/natural.py:document_windows",
    # Decoding as of tokens.
    "model/engine/paged.py:Paged.decode_plan",
    "model/pool/decoding.py:decode_by_kernels",
    "model/pool/decoding.py:decode_plainly",
    # Made for gRPC, which decodes by it: `requests.py` sends it mutated messages.
    "wire/methods.py:_codec",
}
"""What reads bytes and need not be fuzzed, with why not."""


def test_decoders_take_what_is_right_and_refuse_the_rest_in_our_words() -> None:
    outcome = fuzz_decoders(20_000)
    assert outcome.violations == []
    assert outcome.counts["inputs"] >= 19_900 and outcome.counts["refused"] > 8_000


def test_every_decoder_is_fuzzed() -> None:
    """One that is new, or is no longer called, is noticed, and so is one that is named here and is none any more."""
    decoders = {name for package in PACKAGES for name in decoders_in(ROOT / package)} | FOUND_BY_NO_RULE
    called: set[CodeType] = set()

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code)

    sys.setprofile(watch)
    try:
        fuzz_decoders(2_000)
    finally:
        sys.setprofile(None)
    assert len(decoders) > 50
    assert sorted(decoders - set(map(name_of, called))) == sorted(NOT_FUZZED)


@pytest.mark.parametrize(
    ("code", "reads"),
    [
        ("def decode_it(data): return data", True),
        ("def it(data): return struct.unpack('<I', data)", True),
        ("class It:\n    def load(self):\n        return [json.loads(line) for line in self.lines]", True),
        ("def it(path):\n    with open(path, 'rb') as file:\n        return file.read()", True),
        ("def it(path): return path.name", False),
    ],
)
def test_what_reads_bytes_is_found_by_what_it_calls(tmp_path: Path, code: str, reads: bool) -> None:
    (tmp_path / "module.py").write_text(code)
    assert bool(list(decoders_in(tmp_path))) is reads


def decoders_in(folder: Path) -> Iterator[str]:
    """Name every function in the modules of a folder that by its name or by what it calls reads bytes or files."""
    for path in folder.rglob("*.py"):
        for code in functions_in(compile(path.read_text(encoding="utf-8"), path, "exec")):
            opens = any(one.opname == "LOAD_GLOBAL" and one.argval == "open" for one in dis.get_instructions(code))
            if opens or code.co_name.startswith(NAMED) or not READING.isdisjoint(code.co_names):
                yield name_of(code)


def functions_in(part: CodeType) -> Iterator[CodeType]:
    """Every function in a module or a part of one, those within classes and functions too."""
    for code in part.co_consts:
        if isinstance(code, CodeType):
            if code.co_flags & inspect.CO_OPTIMIZED:
                yield code
            yield from functions_in(code)


def name_of(code: CodeType) -> str:
    path = Path(code.co_filename)
    function = code.co_qualname.partition(".<locals>")[0]
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{function}"


def test_every_message_is_answered_by_one_of_our_codes(tmp_path: Path, random_model: str) -> None:
    with Embedded(tmp_path, model=random_model) as memory, Server(memory) as server:
        outcome = fuzz_requests(server, 1_000)
    assert outcome.violations == []
    assert outcome.counts["messages"] == 1_000 and outcome.counts["OK"] > 100
    methods = {method.name for service in (MEMORY_SERVICE, GENERATION_SERVICE) for method in service.methods}
    sent = {name: sum(count for (place, _), count in outcome.places.items() if place == name) for name in methods}
    assert {place for place, _ in outcome.places} == methods and all(sent.values()), sent
