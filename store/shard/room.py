"""Whether there is room for more: on the disk, in the maps, and under the quotas. Deletes never ask."""

from .. import limits
from ..disk.durable import free_bytes
from ..disk.environment import Environment
from ..errors import ResourceExhausted
from ..types import Quotas


class Room:
    """The room of one shard."""

    def __init__(self, records: Environment, key_values: Environment, quotas: Quotas) -> None:
        self.quotas = quotas
        self._records = records
        self._key_values = key_values

    def check(self) -> None:
        """Refuse to add anything when there is no room.

        What is reserved of disk and map is for deletes: LMDB writes pages anew before it can give old ones back.

        Raises:
            ResourceExhausted: says what is full, and what to do.
        """
        path = self._records.path
        free = free_bytes(path)
        if free < limits.BYTES_RESERVED:
            raise ResourceExhausted(
                f"the disk of {path} has {free} bytes left, {limits.BYTES_RESERVED} are kept so that deletes can be "
                "stored; free space, or delete documents and compact"
            )
        for environment in (self._records, self._key_values):
            self._check_map(environment)
        if self.quotas.bytes_max is not None:
            used = _used(self._records) + _used(self._key_values)
            if used >= self.quotas.bytes_max:
                raise ResourceExhausted(
                    f"{path.parent} takes {used} bytes, its quota is {self.quotas.bytes_max}; "
                    "delete documents, or raise the quota"
                )

    def key_values_over(self) -> int:
        """Return by how many bytes the key-values are over their quota, 0 when they are not."""
        most = self.quotas.key_values_bytes_max
        return 0 if most is None else max(0, _used(self._key_values) - most)

    def is_there_for_key_values(self) -> bool:
        """Say whether key-values can be added, a spare under their quota left."""
        most = self.quotas.key_values_bytes_max
        if most is not None and _used(self._key_values) >= most - most // limits.SPARE_SHARE:
            return False
        try:
            self.check()
        except ResourceExhausted:
            return False
        return True

    def _check_map(self, environment: Environment) -> None:
        # Most of the time the end of the file is far away, and nothing has to be counted.
        if environment.reach() + limits.BYTES_RESERVED <= environment.map_bytes:
            return
        used = _used(environment)
        if used + limits.BYTES_RESERVED > environment.map_bytes:
            raise ResourceExhausted(
                f"{environment.path} holds {used} bytes, at most {environment.map_bytes} are possible; delete documents"
            )


def _used(environment: Environment) -> int:
    with environment.reading() as txn:
        return environment.bytes_used(txn)
