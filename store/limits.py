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

TIME_MIN = 1e9
TIME_MAX = 1e11
"""Times of expiry, in seconds since the epoch: from 2001 on, and less than any time in milliseconds."""

FILTER_DEPTH_MAX = 16
"""Objects within objects of one filter."""
FILTER_CONDITIONS_MAX = 256
FILTER_VALUES_MAX = 10_000
"""Values in all lists (`$in`, `$nin`) of one filter."""

UPSERT_DOCUMENTS_MAX = 10_000
UPSERT_BYTES_MAX = 256 << 20
"""Text of one upsert."""
KEYS_MAX = 10_000
"""Keys in one get or delete."""
PAGE_DOCUMENTS_MAX = 1_000
SORTED_KEYS_MAX = 20_000
"""Memories that match a filter, up to which a page is made of their sorted keys; over it of all keys in order."""
RECALL_QUERIES_MAX = 1_024
RECALL_K_MAX = 1_000
RECALL_KEY_VALUES_MAX = 1_024
"""Queries times k of a recall that brings key-values: all of them are in memory at once."""
SEQS_MAX = 10_000
"""Seqs in one look-up."""

SWEEP_MAX = 100
"""Memories of expired documents deleted in one transaction, for which writes wait."""
CHANGES_MAX = 10_000
"""Entries of the log read at a time."""

CHOICES_KEPT = 16
"""Filters of which a shard remembers what they chose."""

COLD_MAX = 1_000
"""Cold memories in one answer."""

VECTOR_NORM_TOLERANCE = 1e-3

FINGERPRINT_BYTES_MAX = 128
FINGERPRINTS_MAX = 64
"""Models whose key-values one shard holds at a time."""
KEY_VALUE_BYTES_MAX = 64 << 20
KEY_VALUES_BATCH_MAX = 256
KEY_VALUES_BATCH_BYTES_MAX = 8 << 20
"""Key-values written in one transaction, for which writes wait; a longer stream takes several."""
VERIFIED_AT_OPENING_MAX = 5_000
"""Key-values that are looked through before a shard is open: of those that are not in memory, a second or two. More
are looked through beside calls."""
VERIFIED_AT_ONCE = 1_000
"""Of these, looked at in one read of LMDB."""
KEY_VALUES_REMOVED_AT_ONCE = 200
"""Key-values that make room in one transaction, for which writes wait."""
REST_S = 0.001
"""Between two turns of work that writes wait for, so that those who wait have theirs."""

GROUP_CHANGES_MAX = 256
GROUP_BYTES_MAX = 8 << 20
"""Callers' changes that are committed together; what is larger goes alone."""

SHARDS_MAX = 64
"""Shards of a collection in one process."""

REQUEST_ID_BYTES_MAX = 256
REQUEST_PART_BYTES_MAX = 64
"""What is put to a caller's id for the parts that its request is cut into."""
REQUESTS_KEPT = 100_000
"""Answers kept in a shard for requests that are sent again."""

BYTES_RESERVED = 16 << 20
"""Bytes of a disk, and of each map, that only deletes may use."""
MOST_READ_MAX = 1_000
"""Memories that are read most, in one answer."""
READS_KEPT = 1 << 20
"""Memories whose reads are counted; over it counts are halved, in turns, and those of one read dropped."""
READS_SAVED_AT_ONCE = 2_000
"""Counts of reads written in one transaction, for which writes may wait."""
SPARE_SHARE = 10
"""Key-values that are over their quota are removed until one part in so many of it is free."""

RECORDS_BYTES_MAX = 128 << 30
KEY_VALUES_BYTES_MAX = 1 << 40
"""Sizes of the LMDB maps of a shard: address space, neither disk nor memory."""
READERS_MAX = 1_024
"""Read transactions open at once in one environment."""

EXACT_MAX = 5_000
"""Vectors that are searched one by one; more are clustered. From here on that is twice as fast, and at 10,000 eight
times (docs/performance.md)."""
LISTS_MAX = 1 << 20
"""Lists of an index; with 2 * sqrt(N) of them that is more than a shard has memories for."""
CLUSTERING_FACTOR = 4
"""Growth or shrinking, and changes for each vector, after which an index is clustered again."""
BUILT_AT_OPENING_MAX = 100_000
"""Memories up to which an index that is lost is built while a shard is opened; of more it is built beside changes."""
INDEX_WAITERS_MAX = 8
"""Recalls that wait for such an index in one shard, each in a thread of its caller; more of them are refused."""
CLUSTERED_ALONE_MIN = 1_000_000
"""Memories from which on one shard of a process is clustered at a time, because each is then held twice."""
CHANGES_AT_ONCE = 2_000
REMOVED_AT_ONCE = 10_000
"""Changes that the index takes, and vectors that it loses, while searches wait."""
COPIED_AT_ONCE = 1 << 20
"""Bytes of the index that are copied to be saved while writes wait."""
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
TAKEN_UP_MAX = 100
"""Changes that a new index may lack when it is taken up, while writes wait."""
TRIMMED_AT_ONCE = 5_000
"""Changes dropped from the log in one transaction, for which writes wait."""
