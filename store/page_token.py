"""Page tokens: "after this key", opaque to callers (docs/format.md)."""

import base64
import binascii

import xxhash

from .errors import InvalidArgument

_LAYOUT = b"\1"
_CHECK_BYTES = 4


def encode_page_token(key: bytes) -> str:
    """Return a token for the page that follows `key`."""
    return base64.urlsafe_b64encode(_LAYOUT + _check(key) + key).rstrip(b"=").decode()


def decode_page_token(token: str) -> bytes:
    """Return the key that the page follows.

    Raises:
        InvalidArgument: `encode_page_token` made no such token.
    """
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, TypeError, binascii.Error) as error:
        raise _bad(token) from error
    check, key = data[1 : 1 + _CHECK_BYTES], data[1 + _CHECK_BYTES :]
    if data[:1] != _LAYOUT or not key or check != _check(key):
        raise _bad(token)
    return key


def _bad(token: object) -> InvalidArgument:
    return InvalidArgument(f"page token {token!r:.100} is none of ours; pass the last page's next_page_token unchanged")


def _check(key: bytes) -> bytes:
    return xxhash.xxh3_64_digest(key)[-_CHECK_BYTES:]
