"""Which chaincode servers a peer dials: those of the packages that its organization has approved and it has installed.

A definition in force runs with the package approved for its sequence. What is approved for the next sequence is dialled
as well, so that old and new version are both there when it commits.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeAlias, TypeVar

from hlf.admin.packaging import ChaincodePackage, assemble

from hlf_devnet import lifecycle
from hlf_devnet.chaincode_session import TransactionContext
from hlf_devnet.chaincode_stream import ChaincodeClient
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.lifecycle import ChaincodeDefinition
from hlf_devnet.packages import Connection, PackageStore

Context = TypeVar("Context", bound=TransactionContext)
Connect: TypeAlias = "Callable[[str, Connection], ChaincodeClient[Context]]"
Watch: TypeAlias = "Callable[[asyncio.Task[None]], asyncio.Task[None]]"


@dataclass(frozen=True, slots=True)
class Runnable(Generic[Context]):
    """A definition in force as one peer sees it. `package_id` is empty where the organization's package is not
    installed; `client` is None where it is not approved or not installed."""

    definition: ChaincodeDefinition
    is_approved: bool
    package_id: str
    client: ChaincodeClient[Context] | None


@lru_cache(maxsize=64)
def configured_package(name: str, version: str) -> ChaincodePackage:
    """What stands for a chaincode server that the configuration file names: it says nothing of where that is."""
    return assemble(f"{name}_{version}", {})


class Chaincodes(Generic[Context]):
    """Those of one peer. `configured`: servers by chaincode name, from the configuration file."""

    def __init__(self, ledger: PeerLedger, packages: PackageStore, configured: Mapping[str, Connection]) -> None:
        self.packages = packages
        self.configured = configured
        self._ledger = ledger
        self._connect: Connect[Context] | None = None
        self._watch: Watch | None = None
        self._clients: dict[str, tuple[ChaincodeClient[Context], asyncio.Task[None]]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._known: dict[str, Runnable[Context] | None] = {}

    def serve(self, connect: "Connect[Context]", watch: "Watch") -> None:
        """Begins to dial. `connect` makes the client of a package id; `watch` takes care of a task whose failure must
        not go unnoticed."""
        self._connect, self._watch = connect, watch
        self.refresh()

    def find(self, name: str) -> Runnable[Context] | None:
        """The definition in force and what runs it; None when the chaincode is not defined."""
        if name not in self._known:
            self._known[name] = self._looked_up(name)
        return self._known[name]

    def refresh(self) -> None:
        """After a block that changed definitions or approvals, and after an installation."""
        self._known.clear()
        if self._connect is None or self._watch is None:
            return
        wanted = self._wanted()
        for package_id in self._clients.keys() - wanted.keys():
            self._retire(*self._clients.pop(package_id))
        for package_id in wanted.keys() - self._clients.keys():
            client = self._connect(package_id, wanted[package_id])
            self._clients[package_id] = client, self._watch(asyncio.create_task(client.run()))

    def ready(self) -> dict[str, bool]:
        """Whether each chaincode in force could run a transaction now, by name."""
        found = {name: self.find(name) for name in self._names()}
        return {name: one is not None and one.client is not None and one.client.is_ready for name, one in found.items()}

    def connected(self) -> dict[str, bool]:
        """Every package that is dialled, by id."""
        return {package_id: client.is_ready for package_id, (client, _) in sorted(self._clients.items())}

    def installed(self) -> dict[str, str]:
        """Labels by package id, of installed packages and of those that the configuration file stands for."""
        stored = {package_id: package_id.rpartition(":")[0] for package_id in self.packages.ids}
        return stored | {package.package_id: package.label for package in self._configured_packages()}

    def references(self, package_id: str) -> list[ChaincodeDefinition]:
        """The definitions in force that run with a package."""
        found = [self.find(name) for name in self._names()]
        return [one.definition for one in found if one is not None and one.package_id == package_id]

    async def close(self) -> None:
        tasks = [task for _, task in self._clients.values()] + list(self._retiring)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _looked_up(self, name: str) -> Runnable[Context] | None:
        definition = lifecycle.committed_definition(self._ledger, name)
        if definition is None:
            return None
        approval = lifecycle.approval_at(self._ledger, definition, list(self.installed()))
        client = self._clients.get(approval.package_id) if approval.is_given else None
        return Runnable(definition, approval.is_given, approval.package_id, None if client is None else client[0])

    def _wanted(self) -> dict[str, Connection]:
        """How to dial each package that is approved for a sequence in force or the next one, and installed."""
        found: dict[str, Connection] = {}
        for name, package_id in self._approved():
            if package_id in self.packages:
                found[package_id] = self.packages.connection(package_id)
            elif name in self.configured and package_id in self.installed():
                found[package_id] = self.configured[name]
        return found

    def _approved(self) -> list[tuple[str, str]]:
        found = lifecycle.approved_packages(self._ledger)
        for name in self._names():
            definition = lifecycle.committed_definition(self._ledger, name)
            if definition is not None:
                approval = lifecycle.approval_at(self._ledger, definition, list(self.installed()))
                if approval.is_given and approval.package_id:
                    found.append((name, approval.package_id))
        return found

    def _names(self) -> list[str]:
        return lifecycle.defined_names(self._ledger)

    def _configured_packages(self) -> list[ChaincodePackage]:
        definitions = [lifecycle.committed_definition(self._ledger, name) for name in self.configured]
        return [configured_package(one.name, one.version) for one in definitions if one is not None]

    def _retire(self, client: ChaincodeClient[Context], running: "asyncio.Task[None]") -> None:
        """Transactions that run on it may end first."""

        async def end() -> None:
            await client.idle()
            running.cancel()

        task = asyncio.create_task(end())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
