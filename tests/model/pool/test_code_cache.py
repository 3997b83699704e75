"""The cache of codes in RAM: bounded in bytes, least recently used out."""

from random import Random

from memory3.model.pool.code_cache import CodeCache


def test_the_least_recently_used_leaves_first() -> None:
    cache = CodeCache(30)
    for key in "abc":
        cache.put(key, bytes(10))
    assert cache.get("a") == bytes(10)
    cache.put("d", bytes(10))
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]


def test_a_value_larger_than_the_cache_is_not_kept_and_pushes_nothing_out() -> None:
    cache = CodeCache(30)
    cache.put("a", bytes(30))
    cache.put("b", bytes(31))
    assert cache.get("b") is None and cache.get("a") == bytes(30)
    cache.put("a", bytes(31))
    assert cache.get("a") is None and (cache.bytes, len(cache)) == (0, 0)


def test_bytes_are_counted_and_bounded_whatever_happens() -> None:
    random, cache, held = Random(0), CodeCache(500), dict[int, bytes]()
    for _ in range(5_000):
        key = random.randrange(40)
        if random.random() < 0.2:
            cache.drop(key)
            held.pop(key, None)
        else:
            held[key] = random.randbytes(random.randrange(1, 120))
            cache.put(key, held[key])
        present = {key: value for key in range(40) if (value := cache._values.get(key)) is not None}
        assert cache.bytes == sum(map(len, present.values())) <= 500
        assert all(held[key] == value for key, value in present.items())
