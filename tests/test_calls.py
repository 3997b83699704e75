"""Arguments are taken alike by both ends, and what cannot be meant is refused."""

import pytest
from memory3.calls import stops_of
from memory3.store.errors import InvalidArgument


def test_one_text_is_one_stop_string() -> None:
    assert stops_of("abc") == ("abc",)
    assert stops_of(["ab", "c"]) == ("ab", "c")
    assert stops_of(()) == ()


@pytest.mark.parametrize(("stop", "message"), [("", "empty"), (["a", ""], "empty"), ([3], "text"), (None, "text")])
def test_stop_strings_that_cannot_be_meant(stop: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        stops_of(stop)  # type: ignore[arg-type]
