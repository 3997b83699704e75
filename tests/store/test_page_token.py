import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory3.store.errors import InvalidArgument
from memory3.store.page_token import decode_page_token, encode_page_token


@given(st.binary(min_size=1, max_size=511))
def test_a_token_comes_back_as_its_key(key: bytes) -> None:
    assert decode_page_token(encode_page_token(key)) == key


@pytest.mark.parametrize("token", ["x", "nonsense", "====", "é", "AA", encode_page_token(b"key")[:-2], "A" * 1000])
def test_a_token_that_is_none_of_ours_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="page token"):
        decode_page_token(token)


@given(st.text(max_size=40))
def test_any_text_is_a_token_or_refused(token: str) -> None:
    try:
        decode_page_token(token)
    except InvalidArgument:
        return
