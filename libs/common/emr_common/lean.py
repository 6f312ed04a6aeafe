"""How a process of a service starts: without what the libraries it stands on bring along and it never uses.

That is a tenth of its memory and of the time until it is there.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

LEFT_OUT = ("rich", "yaml", "pydantic.v1", "httpx._main")
"""Consoles, YAML, models of a time before, a command line: whoever imports them can do without, and says so."""
EMPTY = ("sqlalchemy.ext.asyncio.session", "sqlalchemy.ext.asyncio.scoping", "uvicorn.main", "html.entities")
"""Whoever imports these cannot do without, and uses nothing of them here: what is about the ORM in SQLAlchemy's asyncio
(statements are of its Core), uvicorn's command line, and what ``&hearts;`` stands for.
"""


def start(module: str) -> None:
    """Imports a service's main module and runs its ``main``. Nothing else may have been imported before."""
    for name in LEFT_OUT:
        sys.modules[name] = None  # type: ignore[assignment] # as Python says it of what is not to be found
    for name in EMPTY:
        sys.modules[name] = _Absent(name)
    importlib.import_module(module).main()


class _Absent(ModuleType):
    """A module of which every name may be imported and is None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None
