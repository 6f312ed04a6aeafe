"""When a batch of envelopes becomes a block (Fabric's `orderer/common/blockcutter`)."""

from dataclasses import dataclass
from typing import Generic, TypeVar

ABSOLUTE_TO_PREFERRED = 10


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """A block is cut `timeout_ms` after its first envelope, or when it is full. `max_bytes` is the preferred size: a
    larger envelope gets a block of its own, and is refused beyond `absolute_max_bytes` (10 times that, if 0)."""

    timeout_ms: float = 50
    max_messages: int = 24
    max_bytes: int = 2 * 1024 * 1024
    absolute_max_bytes: int = 0

    def __post_init__(self) -> None:
        if not self.absolute_max_bytes:
            object.__setattr__(self, "absolute_max_bytes", self.max_bytes * ABSOLUTE_TO_PREFERRED)


Item = TypeVar("Item")


class BlockCutter(Generic[Item]):
    """Collects items with their sizes in bytes."""

    def __init__(self, settings: BatchSettings) -> None:
        self._settings = settings
        self._pending: list[Item] = []
        self._bytes = 0

    @property
    def is_empty(self) -> bool:
        return not self._pending

    def add(self, item: Item, size: int) -> list[list[Item]]:
        """The batches that are complete with `item`, at most two."""
        complete = []
        if self._pending and self._bytes + size > self._settings.max_bytes:
            complete.append(self.cut())
        self._pending.append(item)
        self._bytes += size
        if size > self._settings.max_bytes or len(self._pending) >= self._settings.max_messages:
            complete.append(self.cut())
        return complete

    def cut(self) -> list[Item]:
        """What is pending, which starts anew."""
        batch, self._pending, self._bytes = self._pending, [], 0
        return batch
