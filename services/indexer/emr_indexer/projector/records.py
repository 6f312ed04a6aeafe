"""Kafka's records as the projector takes them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from emr_model.ledger.codec import ValueMalformed
from emr_model.ledger.events import Message, decode


@dataclass(eq=False, slots=True)
class Record:
    """One of the hospital's topics. It is itself alone: another of the same place is another delivery."""

    partition: int
    offset: int
    value: bytes
    headers: Sequence[Any] = ()
    decoded: Message | None = None
    """At first only where the message was never a record's bytes."""
    _is_read: bool = field(default=False, init=False)

    @property
    def id(self) -> str:
        """For a record that is no message and so has no id of its own."""
        return f"kafka/{self.partition}/{self.offset}"

    @property
    def message(self) -> Message | None:
        """What it says, read when it is first asked for; None where the relay cannot have written it."""
        if self.decoded is None and not self._is_read:
            self._is_read = True
            with suppress(ValueMalformed):
                self.decoded = decode(self.value)
        return self.decoded
