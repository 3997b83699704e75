import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.store.disk.seal import Damaged, seal, unseal
from memory3.store.errors import Corrupted

places = st.tuples(st.sampled_from(["documents", "memories", "values"]), st.binary(min_size=1, max_size=40))


@given(places, st.binary(max_size=600))
def test_a_sealed_value_comes_back(place: tuple[str, bytes], payload: bytes) -> None:
    assert bytes(unseal(*place, seal(*place, payload))) == payload


@given(places, st.binary(max_size=600), st.data())
def test_any_flipped_bit_is_noticed(place: tuple[str, bytes], payload: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(*place, payload))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Damaged):
        unseal(*place, bytes(sealed))


@given(places, places, st.binary(max_size=600))
def test_a_value_in_another_place_is_damaged(here: tuple[str, bytes], there: tuple[str, bytes], payload: bytes) -> None:
    if here != there:
        with pytest.raises(Damaged):
            unseal(*there, seal(*here, payload))


@given(places, st.binary(min_size=1, max_size=600), st.data())
def test_a_cut_value_is_damaged(place: tuple[str, bytes], payload: bytes, data: st.DataObject) -> None:
    sealed = seal(*place, payload)
    with pytest.raises(Damaged):
        unseal(*place, sealed[: data.draw(st.integers(0, len(sealed) - 1))])


def test_damage_is_corruption_that_names_its_place() -> None:
    with pytest.raises(Corrupted, match="seq 7 in memories"):
        unseal("memories", (7).to_bytes(8, "big"), b"")
    with pytest.raises(Corrupted, match="key 'Zoë' in documents"):
        unseal("documents", "Zoë".encode(), b"0123456789")
    with pytest.raises(Corrupted, match="seq 9 in values of fingerprint 3"):
        unseal("values", (3).to_bytes(4, "big") + (9).to_bytes(8, "big"), b"0123456789")
