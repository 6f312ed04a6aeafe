"""A call of the contract with everything that its proposal carries, before anybody has signed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emr_model.ledger.functions import Function

Argument = str | bytes | int


@dataclass(frozen=True, repr=False)
class Call:
    """``transient`` holds sealed bytes only. ``ids``: what is known before of the answer, ids and versions."""

    function: Function
    arguments: tuple[Argument, ...] = ()
    transient: Mapping[str, bytes] | None = None
    ids: Mapping[str, Any] = field(default_factory=dict)
