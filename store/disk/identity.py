"""What an LMDB environment says it is, read before anything else in it."""

from ..errors import Corrupted
from ..format import Identity, decode_identity, encode_identity
from .environment import Environment, Table

IDENTITY = b"identity"


def identity_table(environment: Environment) -> Table[Identity]:
    return environment.table("meta", encode_identity, decode_identity)


def read_identity(environment: Environment, magic: str) -> Identity:
    """Return the identity of an environment that should be a `magic`.

    Raises:
        UnsupportedFormat: it was written in another format version.
        Corrupted: it is damaged, missing, or of something else.
    """
    table = identity_table(environment)
    with environment.reading() as txn:
        identity = table.get(txn, IDENTITY)
    if identity is None or identity.magic != magic:
        raise Corrupted(f"{environment.path} is not {magic}: its identity is {identity}")
    return identity
