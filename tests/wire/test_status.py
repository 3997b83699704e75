"""Every error of ours arrives at a remote caller as the same class, with its message."""

import inspect

import pytest
from memory3.store import errors
from memory3.wire.status import CODES, status_of

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.Memory3Error)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_line_in_the_table(kind: type[errors.Memory3Error]) -> None:
    assert kind in dict(CODES)


def test_an_error_of_a_library_user_travels_as_its_nearest_class() -> None:
    class Own(errors.NotFound):
        pass

    assert status_of(Own("x")).code == status_of(errors.NotFound("x")).code
