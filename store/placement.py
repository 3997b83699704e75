"""Which shard a key belongs to: rendezvous hashing, so that every key's shard follows from the key and their number."""

import xxhash


def shard_of_key(key: str, shards: int) -> int:
    """Return the shard, 0 to `shards` - 1, whose hash of the key is the greatest."""
    if shards == 1:
        return 0
    encoded = key.encode()
    return max(range(shards), key=lambda shard: xxhash.xxh3_64_intdigest(encoded, seed=shard))
