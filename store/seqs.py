"""Seqs carry their shard: those of shard `n` follow n << 48, so that a seq is unique in its collection."""

SHARD_SHIFT = 48


def base_of(shard: int) -> int:
    """Return the seq before the first one of a shard."""
    return shard << SHARD_SHIFT


def shard_of_seq(seq: int) -> int:
    """Return the shard whose memory or change the seq names."""
    return seq >> SHARD_SHIFT
