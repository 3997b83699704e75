import threading
import time

from memory3.store.disk.locks import NestingReadWriteLock, ReadWriteLock


def test_readers_share_and_a_writer_is_alone() -> None:
    lock = ReadWriteLock()
    inside: list[str] = []
    seen: list[list[str]] = []
    guard = threading.Lock()

    def hold(name: str) -> None:
        with lock.reading() if name.startswith("r") else lock.writing():
            with guard:
                inside.append(name)
                seen.append(sorted(inside))
            time.sleep(0.002)
            with guard:
                inside.remove(name)

    threads = [threading.Thread(target=hold, args=(f"{'rrrw'[i % 4]}{i}",)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert all(len(names) == 1 for names in seen if any(name.startswith("w") for name in names))
    assert any(len(names) > 1 for names in seen)


def test_readers_cannot_starve_a_writer() -> None:
    lock = ReadWriteLock()
    wrote, stop = threading.Event(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            with lock.reading():
                time.sleep(0.001)

    def write() -> None:
        with lock.writing():
            wrote.set()

    threads = [threading.Thread(target=read, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    in_time = wrote.wait(5)
    stop.set()
    for thread in [*threads, writer]:
        thread.join(5)
    assert in_time


def test_writers_cannot_starve_a_reader() -> None:
    """There was always a writer waiting, and it went before any reader that had come since."""
    lock = ReadWriteLock()
    read, stop = threading.Event(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            with lock.writing():
                time.sleep(0.001)

    def look() -> None:
        with lock.reading():
            read.set()

    threads = [threading.Thread(target=write, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    in_time = read.wait(0.5)
    stop.set()
    for thread in [*threads, reader]:
        thread.join(5)
    assert in_time


def test_a_reader_reads_again_while_a_writer_waits() -> None:
    lock = NestingReadWriteLock()
    wrote = threading.Event()

    def write() -> None:
        with lock.writing():
            wrote.set()

    with lock.reading():
        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(0.05)
        with lock.reading():
            assert not wrote.is_set()
        # The inner one has ended, the outer one still keeps the writer out.
        time.sleep(0.05)
        assert not wrote.is_set()
    assert wrote.wait(5)
    thread.join(5)
    with lock.writing():
        pass
