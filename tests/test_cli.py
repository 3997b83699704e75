"""The command line as users type it: real processes, a real server, and clear words when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer.main
from memory3.cli import app
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.model.loading import TINY
from memory3.store.disk.lock_file import server_address
from memory3.store.placement import shard_of_key
from memory3.store.types import Document

COMMAND = [sys.executable, "-m", "memory3.cli"]
HEEDING_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Shells start what runs in the background with Ctrl-C ignored, and a command inherits that from its tests. Not by a
`preexec_fn`: it forks, and gRPC, where tests have used it, may end the child before the command begins."""
COMMANDS: Any = typer.main.get_command(app)
BEES = "Mira Sandoval keeps bees on the roof of the old post office."


def run(
    *arguments: object, stdin: bytes | None = None, code: int = 0, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command and insist on its exit code, and on never a traceback."""
    ran = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=os.environ | dict(env or {}),
        timeout=120,
    )
    out, err = ran.stdout.decode(), ran.stderr.decode()
    assert ran.returncode == code, (out, err)
    assert "Traceback" not in err
    return subprocess.CompletedProcess(ran.args, ran.returncode, out, err)


def run_json(*arguments: object, **options: Any) -> Any:
    return json.loads(run(*arguments, "--json", **options).stdout)


@pytest.fixture
def on(server: Server, collection: str) -> list[str]:
    """The options that lead to the shared server and the test's collection."""
    return ["--server", server.address, "--collection", collection]


@contextmanager
def serving(data: Path, model: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`memory3 serve` on a free port, and its address."""
    command = [*COMMAND, "serve", "--data", str(data), "--model", model, "--listen", "127.0.0.1:0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())["address"]
    finally:
        process.kill()
        process.communicate()


def test_every_command_and_option_is_explained() -> None:
    wanted = {"serve", "add", "search", "ask", "get", "delete", "list", "stats", "check", "demo", "eval"}
    wanted |= {"train", "train-codec", "backup", "restore", "compact"}
    assert wanted <= COMMANDS.commands.keys()
    for name, command in COMMANDS.commands.items():
        assert command.help, name
        options = {parameter.name: parameter for parameter in command.params}
        assert "json" in options, name
        unexplained = [parameter.name for parameter in command.params if not getattr(parameter, "help", None)]
        assert not unexplained, name


def test_the_whole_way_over_a_server(on: list[str], example_folder: Path) -> None:
    added = run_json("add", example_folder, *on)
    assert added["added"] == 40 and added["failed"] == [] and added["memories"] >= 40
    again = run_json("add", example_folder, *on)
    assert (again["added"], again["unchanged"]) == (0, 40)
    hits = run_json("search", "How tall is the lighthouse?", "-k", "2", *on)
    assert [sorted(hit) for hit in hits] == [["key", "metadata", "score", "text", "version"]] * 2
    assert hits[0]["key"] == "lantern-point-lighthouse.md"
    answer = run_json("ask", "How tall is Lantern Point Lighthouse?", "--max-tokens", 8, *on)
    assert sorted(answer) == ["answer", "memories", "seconds"]
    assert len(answer["memories"]) == 5 and sorted(answer["memories"][0]) == sorted(hits[0])
    shown = run("ask", "How tall is Lantern Point Lighthouse?", "--max-tokens", 8, *on).stdout
    assert "memories read" in shown and "lantern-point-lighthouse.md" in shown
    explained = run_json("ask", "How tall is Lantern Point Lighthouse?", "--max-tokens", 8, "--explain", *on)
    assert (explained["answer"], explained["memories"]) == (answer["answer"], answer["memories"])
    (chunk,) = explained["explanation"]
    assert chunk["chunk"] == 0 and chunk["recalled"] == answer["memories"]
    assert [{name: one[name] for name in hits[0]} for one in chunk["read"]] == chunk["recalled"]
    assert sum(one["mass"] for one in chunk["read"]) + chunk["context_mass"] == pytest.approx(1.0)
    assert all(isinstance(one["log_probability_loss"], float) for one in chunk["read"])
    shown = run("ask", "How tall is Lantern Point Lighthouse?", "--max-tokens", 8, "--explain", *on).stdout
    assert "chunk 0" in shown and shown.count("nats") == 5 and f"{chunk['context_mass']:.1%}" in shown
    text = (example_folder / "tipsy-eel.md").read_text()
    assert run("get", "tipsy-eel.md", *on).stdout.rstrip("\n") == text.rstrip("\n")
    assert run_json("get", "tipsy-eel.md", *on)["text"] == text
    page = run_json("list", "--limit", 3, *on)
    assert len(page["documents"]) == 3
    following = run_json("list", "--limit", 3, "--page-token", page["next_page_token"], *on)
    assert following["documents"][0]["key"] > page["documents"][-1]["key"]
    assert "--page-token" in run("list", "--limit", 3, *on).stdout
    receipt = run_json("delete", "tipsy-eel.md", "nothing", *on)
    assert (receipt["deleted"], receipt["missing"]) == (["tipsy-eel.md"], ["nothing"])
    assert run_json("stats", *on)["count"]["documents"] == 39
    shown = run("stats", "--most-read", 2, *on).stdout
    assert "39" in shown and "memories read most" in shown and "16.0 MiB of it kept for deletes" in shown
    found = run_json("stats", *on)
    assert {name: count + found["cold"][name] for name, count in found["warm"].items()} == dict.fromkeys(
        found["warm"], found["count"]["memories"]
    )
    read = run_json("stats", "--most-read", 2, *on)["most_read"]
    assert len(read) == 2 and read[0]["reads"] >= read[1]["reads"] >= 1
    assert read[0]["reads"] in run_json("get", read[0]["key"], *on)["reads"]
    assert run_json("check", "--full", *on)["ok"] is True
    assert "all is well" in run("check", *on).stdout
    assert "no document 'tipsy-eel.md'" in run("get", "tipsy-eel.md", *on, code=1).stderr


def test_add_names_what_it_cannot_read_and_goes_on(on: list[str], tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text(BEES)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "huge.txt").write_text("x" * ((16 << 20) + 1))
    (tmp_path / "more.jsonl").write_text('{"key": "a", "text": "A."}\nnonsense\n')
    ran = run("add", tmp_path, tmp_path / "missing", "--json", *on, code=1)
    report = json.loads(ran.stdout)
    assert report["added"] == 2
    reasons = {Path(failed["name"]).name: failed["reason"] for failed in report["failed"]}
    assert reasons["bad.txt"] == "not UTF-8 at byte 0; convert it first"
    assert "at most 16777216 are allowed" in reasons["huge.txt"]
    assert "not JSON" in reasons["more.jsonl:2"] and reasons["missing"] == "no such file or folder"
    assert "bad.txt" in ran.stderr


def test_a_collection_is_made_when_wanted(server: Server) -> None:
    over = ["--server", server.address, "--collection", "made-by-add"]
    refused = run("add", "-", *over, stdin=b'{"key": "a", "text": "A."}', code=1)
    assert "no collection 'made-by-add'" in refused.stderr
    run("add", "-", "--create", *over, stdin=b'{"key": "a", "text": "A."}')
    assert run_json("get", "a", *over)["text"] == "A."


def test_add_from_standard_input(on: list[str]) -> None:
    lines = b'{"key": "a", "text": "A.", "metadata": {"page": 3}}\n{"key": "a", "text": "B."}\n'
    assert run_json("add", "-", *on, stdin=lines)["added"] == 2
    assert run_json("get", "a", *on)["text"] == "B."
    run("add", "-", "--key", "note", *on, stdin=BEES.encode())
    assert run("get", "note", *on).stdout.strip() == BEES
    assert "not UTF-8" in run("add", "-", "--key", "note", *on, stdin=b"\xff", code=1).stderr


WRONG_USAGE = [
    ["nonsense"],
    ["search"],
    ["add", "-", "x"],
    ["add", "x", "--key", "k"],
    ["ask", "q", "--max-tokens", "0"],
    ["list", "--limit", "many"],
]


@pytest.mark.parametrize("arguments", WRONG_USAGE, ids=map(" ".join, WRONG_USAGE))
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert run(*arguments, code=2).stderr


def test_failures_are_one_line_and_1(server: Server, tmp_path: Path) -> None:
    (tmp_path / "stranger").write_text("not ours")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "format.json").write_text('{"magic": "memory3 data directory", "format": 99}')
    for arguments, words in (
        (["get", "x", "--server", server.address, "--collection", "nowhere"], "no collection 'nowhere'; create it"),
        (["get", "x", "--server", "127.0.0.1:1"], "cannot be reached"),
        (["get", "x", "--data", tmp_path], "choose an empty directory"),
        (["get", "x", "--data", tmp_path / "old"], "99"),
        (["serve", "--data", tmp_path / "new", "--embedder", tmp_path / "none"], str(tmp_path / "none")),
    ):
        ran = run(*arguments, code=1)
        assert words in ran.stderr and ran.stderr.startswith("memory3: ")
        assert len(ran.stderr.strip().splitlines()) == 1, ran.stderr


def test_a_bad_configuration_is_2(tmp_path: Path) -> None:
    (tmp_path / "memory3.toml").write_text("datta = 'x'")
    ran = run("stats", code=2, env={"MEMORY3_CONFIG": str(tmp_path / "memory3.toml")})
    assert "datta: Extra inputs are not permitted" in ran.stderr


def test_without_a_server_the_directory_is_opened(tmp_path: Path, random_model: str) -> None:
    data = tmp_path / "data"
    env = {"MEMORY3_DATA": str(data), "MEMORY3_MODEL": random_model}
    run("add", "-", "--key", "note", stdin=BEES.encode(), env=env)
    assert run_json("search", "Who keeps bees?", env=env)[0]["key"] == "note"
    asked = run_json("ask", "Who keeps bees?", "--max-tokens", 3, "--explain", env=env)
    assert asked["memories"][0]["key"] == asked["explanation"][0]["read"][0]["key"] == "note"
    assert run_json("ask", "Who?", "--max-tokens", 3, "-k", 0, "--explain", env=env)["explanation"] == []


def test_shards_that_were_not_asked_are_named(tmp_path: Path, random_model: str) -> None:
    env = {"MEMORY3_DATA": str(tmp_path), "MEMORY3_MODEL": random_model, "MEMORY3_SHARDS": "2"}
    run("add", "-", "--key", "note", stdin=BEES.encode(), env=env)
    (tmp_path / f"collections/00000001/shard-{1 - shard_of_key('note', 2):04}/records/data.mdb").unlink()
    for command in (("search", "bees"), ("ask", "Who keeps bees?", "--max-tokens", 3)):
        ran = run(*command, "--json", env=env)
        assert "note" in ran.stdout and "not asked: memory3 check" in ran.stderr


def test_commands_find_the_server_on_their_directory(tmp_path: Path, random_model: str) -> None:
    data = tmp_path / "data"
    with serving(data, random_model) as (process, address):
        run("add", "-", "--key", "note", "--data", data, stdin=BEES.encode())
        assert run_json("get", "note", "--data", data)["text"] == BEES
        refused = run("serve", "--data", data, code=1)
        assert address in refused.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert not (data / "server.json").exists()
    assert run("get", "note", "--data", data).stdout.strip() == BEES


def test_a_directory_is_backed_up_and_compacted_while_it_is_served(tmp_path: Path, random_model: str) -> None:
    data, backup, new = tmp_path / "data", tmp_path / "backup", tmp_path / "new"
    with serving(data, random_model) as (_, address):
        run("add", "-", "--key", "note", "--data", data, stdin=BEES.encode())
        report = run_json("backup", backup, "--data", data)
        assert (report["path"], report["files"]) == (str(backup), 4)
        assert report["collections"] == [{"name": "default", "documents": 1, "memories": 1, "positions": [1]}]
        assert "not empty" in run("backup", backup, "--server", address, code=1).stderr
        assert "not absolute" in run("backup", "relative", "--server", address, code=2).stderr
        refused = run("restore", backup, "--data", data, code=1)
        assert f"served at {address}" in refused.stderr
        compacted = run_json("compact", "--data", data)
        assert compacted["collection"] == "default" and compacted["bytes_after"] <= compacted["bytes_before"]
        assert "dead: free for what is written next" in run("stats", "--data", data).stdout
    assert run_json("restore", backup, "--check") == report
    assert not new.exists()
    assert "restored from" in run("restore", backup, "--data", new).stdout
    assert run("get", "note", "--data", new).stdout.strip() == BEES
    # Without a server it works alike, and a path is taken from where one is.
    moved = run("backup", os.path.relpath(tmp_path / "again"), "--data", new)
    assert str(tmp_path / "again") in moved.stdout.replace("\n", "")
    (backup / "backup.json").unlink()
    assert "not a whole backup" in run("restore", backup, "--data", tmp_path / "none", code=1).stderr
    damaged = tmp_path / "again" / "data" / "collections" / "00000001" / "shard-0000" / "records" / "data.mdb"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert str(damaged) in run("restore", tmp_path / "again", "--data", tmp_path / "none", code=1).stderr


def test_a_server_killed_loses_nothing_and_is_not_waited_for(tmp_path: Path, random_model: str) -> None:
    data = tmp_path / "data"
    with serving(data, random_model) as (process, _):
        run("add", "-", "--key", "note", "--data", data, stdin=BEES.encode())
        process.kill()
        process.wait()
        assert (data / "server.json").exists()
        started = time.monotonic()
        assert run("get", "note", "--data", data).stdout.strip() == BEES
        assert time.monotonic() - started < 20


STOPS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


def stopped(number: signal.Signals, code: int, until: Callable[[], bool], *arguments: object) -> tuple[str, str]:
    """Start a command, stop it once `until` holds, insist on its exit code; what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDING_CTRL_C, *COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not until():
        time.sleep(0.05)
        assert process.poll() is None, process.stderr and process.stderr.read()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in err, err
    return out, err


@STOPS
def test_add_stopped_in_the_middle_keeps_what_it_stored(
    tmp_path: Path, random_model: str, number: signal.Signals, code: int
) -> None:
    """Whole documents only, the store sound, the directory free again; the same add goes on where it was."""
    lines = "".join(json.dumps({"key": f"{n:05}", "text": f"Fact number {n}. " * 20}) + "\n" for n in range(3_000))
    (tmp_path / "facts.jsonl").write_text(lines)
    data = tmp_path / "data"

    def has_stored() -> bool:
        return sum(path.stat().st_size for path in data.glob("collections/*/shard-0000/records/data.mdb")) >= 300_000

    stopped(number, code, has_stored, "add", tmp_path / "facts.jsonl", "--data", data, "--model", random_model)
    with Embedded(data, model=random_model) as memory:
        count = memory.count().documents
        assert 0 < count < 3_000 and memory.check(full=True).ok
        text = memory.get("00000")
        assert text is not None and text.text == "Fact number 0. " * 20


def test_a_reader_that_stops_reading_is_no_error_of_ours(on: list[str], memory: Embedded, collection: str) -> None:
    memory.upsert([Document(f"{n:04}", "word " * 50) for n in range(300)], collection=collection)
    command = " ".join([*COMMAND, "list", "--limit", "1000", "--json", *on]) + " | head -n 1"
    ran = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert ran.stdout == "{\n" and ran.stderr == ""


def test_control_characters_do_not_reach_the_terminal(on: list[str]) -> None:
    run("add", "-", "--key", "evil", *on, stdin=b"red \x1b[31mbees\x07 and [bold]brackets[/bold]")
    shown = run("search", "bees", *on).stdout
    assert "\x1b" not in shown and "\x07" not in shown and "[bold]brackets[/bold]" in shown


def test_version() -> None:
    assert run("--version").stdout.startswith("memory3 ")


EXAM = {
    "documents": [{"key": "bees", "text": BEES}, {"key": "ferry", "text": "The ferry leaves at nine."}],
    "questions": [{"question": "Who keeps bees?", "answers": ["Mira Sandoval"], "key": "bees"}],
    "unanswerable": ["Who repairs clocks?"],
}


def test_eval_tells_what_each_way_of_answering_gets_right(tmp_path: Path, random_model: str) -> None:
    exam = tmp_path / "bees.json"
    exam.write_text(json.dumps(EXAM))
    (result,) = run_json("eval", exam, "--model", random_model, "--memories", 2)
    assert (result["exam"], result["documents"], result["questions"], result["recall"]) == ("bees", 2, 2, 1.0)
    assert sorted(result["ways"]) == ["memory", "none", "text"]
    for way in result["ways"].values():
        assert 0 <= way["exact_match"] <= 1 and 0 <= way["right_refusals"] <= 1 and way["seconds"] > 0
    table = run("eval", exam, "--model", random_model).stdout
    assert "1.000" in table and "the same texts in the context" in table and "kind" not in table
    (tmp_path / "no.json").write_text("{}")
    assert "needs documents" in run("eval", tmp_path / "no.json", code=2).stderr


@STOPS
def test_training_stopped_in_the_middle_goes_on_where_it_was(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """In every process that shares it: once SIGTERM left the workers training until their time was over."""
    from_there = ["--start", str(TINY), "--first-stage", "memory"]
    train = ["train", "--processes", "2", *from_there, "--json", "--out", str(tmp_path)]
    tokenizer = tmp_path / "tokenizer.json"
    some_steps = 5.0
    out, err = stopped(
        number, code, lambda: tokenizer.exists() and time.time() > tokenizer.stat().st_mtime + some_steps, *train
    )
    assert "stopped at step" in err
    assert json.loads(out)["finished"] is False and (tmp_path / "checkpoint.pt").exists()
    again = run(*train, "--minutes", "0.01", code=0)
    assert "resumed at step" in again.stderr and json.loads(again.stdout)["finished"] is True
    assert (tmp_path / "model" / "model.safetensors").exists()


@STOPS
def test_training_stopped_before_it_began_says_so(tmp_path: Path, number: signal.Signals, code: int) -> None:
    out, _ = stopped(number, code, (tmp_path / "tokenizer.json").exists, "train", "--json", "--out", tmp_path)
    assert json.loads(out)["finished"] is False and not (tmp_path / "model").exists()


def test_training_on_what_is_none_is_refused(tmp_path: Path, random_model: str) -> None:
    """One line from any of its processes, and no traceback."""
    for options, words in (
        (["--text", tmp_path], "holds no natural text to train on"),
        (["--start", tmp_path], str(tmp_path)),
        (["--start", random_model], "another shape than this recipe's"),
        (["--first-stage", "none"], "has no stage 'none'"),
    ):
        refused = run("train", "--processes", 2, "--minutes", 0.01, "--out", tmp_path / "out", *options, code=2)
        assert words in refused.stderr and refused.stderr.startswith("memory3: "), refused.stderr


@STOPS
def test_a_demo_stopped_in_the_middle_takes_its_server_with_it(
    tmp_path: Path, random_model: str, number: signal.Signals, code: int
) -> None:
    data = tmp_path / "data"
    stopped(number, code, (data / "server.json").exists, "demo", "--data", data, "--model", random_model)
    # A server that had to be killed leaves its file behind, which nobody believes: it is no longer locked.
    assert server_address(data) is None
    with Embedded(data, model=random_model) as memory:
        assert memory.check(full=True).ok


def test_demo_does_the_main_job(tmp_path: Path, random_model: str) -> None:
    """With random weights its answers are noise; what they are read from is not."""
    report = run_json("demo", "--data", tmp_path / "data", "--model", random_model)
    assert [len(report[part]) for part in ("questions", "change", "delete", "unknown")] == [10, 2, 2, 2]
    assert report["delete"][0]["sources"][0] == "dunsey-seal-refuge.md"
    assert "dunsey-seal-refuge.md" not in report["delete"][1]["sources"]
    assert all(asked["sources"] for asked in report["questions"])
    assert report["seconds"]["first_answer"] < 90


def test_demo_with_the_packaged_model_answers_from_what_it_was_told(tmp_path: Path) -> None:
    """Most answers are right, a changed fact is answered as changed, and a deleted one no more."""
    report = run_json("demo", "--data", tmp_path / "data", env={"HF_HUB_OFFLINE": "1"})
    assert report["equal"] >= 11 and report["asked"] == 16, report
    assert [asked["equal"] for asked in report["change"]] == [True, True], report["change"]
    before, after = report["delete"]
    assert before["equal"] and after["answer"] != before["answer"], report["delete"]
    assert report["seconds"]["first_answer"] < 90
