"""Every limit of the store, by name. Sizes are bytes."""

COLLECTION_NAME_MAX = 64
COLLECTIONS_MAX = 64
"""In one data directory: their maps must fit the 128 TiB of address space of a process."""
EMBEDDER_NAME_MAX = 512
DIMENSION_MAX = 8192

KEY_BYTES_MAX = 511
"""LMDB's own limit for a key."""
TEXT_BYTES_MAX = 16 << 20
REFERENCES_MAX = 1 << 18
"""References in one document."""

METADATA_ENTRIES_MAX = 64
METADATA_KEY_BYTES_MAX = 128
METADATA_BYTES_MAX = 64 << 10
"""One document's metadata, encoded."""

UPSERT_DOCUMENTS_MAX = 10_000
UPSERT_BYTES_MAX = 256 << 20
"""Text of one upsert."""
KEYS_MAX = 10_000
"""Keys in one get or delete."""
PAGE_DOCUMENTS_MAX = 1_000
RECALL_QUERIES_MAX = 1_024
RECALL_K_MAX = 1_000
SEQS_MAX = 10_000
"""Seqs in one look-up."""

COLD_MAX = 1_000
"""Cold memories in one answer."""

VECTOR_NORM_TOLERANCE = 1e-3

FINGERPRINT_BYTES_MAX = 128
FINGERPRINTS_MAX = 64
"""Models whose key-values one shard holds at a time."""
KEY_VALUE_BYTES_MAX = 64 << 20
KEY_VALUES_BATCH_MAX = 256
KEY_VALUES_BATCH_BYTES_MAX = 64 << 20
"""Key-values written in one transaction; a longer stream takes several."""

RECORDS_BYTES_MAX = 128 << 30
KEY_VALUES_BYTES_MAX = 1 << 40
"""Sizes of the LMDB maps of a shard: address space, neither disk nor memory."""
READERS_MAX = 1_024
"""Read transactions open at once in one environment."""

COPY_PIECE_BYTES = 1 << 20
"""Bytes of a copy between two looks at whether it is still wanted."""
COPY_SYNC_BYTES = 64 << 20
"""Bytes of a copy after which they are written to the disk."""
TOUCHED_MAX = 1 << 20
"""Values changed while a file is copied that are remembered, to be changed in the copy too."""
TOUCHED_LAST_MAX = 100
"""Of these, how many may be left for the end, when changes wait."""
TOUCHED_BATCH = 64
"""Values changed in the copy in one transaction."""
COMPACT_SHARE = 10
"""A file is compacted when more than one byte in so many is free: copying all of it for less is not worth it."""

SNAPSHOT_CHANGES_MIN = 5_000
"""Changes after which the index is saved, when they are also a quarter of it, so that saving stays a fixed share."""
CHANGES_KEPT = 100_000
"""Changes kept in the log behind the saved index."""
