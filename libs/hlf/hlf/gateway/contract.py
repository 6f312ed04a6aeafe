"""A chaincode on a channel, called in someone's name."""

from collections.abc import Mapping, Sequence

from hlf.gateway.connections import Connections
from hlf.gateway.proposal import Proposal
from hlf.identity import Creator


class Contract:
    """Cheap to make: one for each caller and call is fine."""

    def __init__(self, connections: Connections, creator: Creator, channel: str, chaincode: str) -> None:
        self._connections = connections
        self._creator = creator
        self.channel = channel
        self.chaincode = chaincode

    async def evaluate(
        self,
        function: str,
        *args: str | bytes,
        transient: Mapping[str, bytes] | None = None,
        target_organizations: Sequence[str] = (),
        timeout: float | None = None,
    ) -> bytes:
        """What `function` answers on one peer; nothing is changed. Raises EvaluateError.

        Name `target_organizations`: without them a gateway asks another organization's peer when its own fails, which
        then sees the question. `timeout` is in seconds.
        """
        proposal = self.propose(function, *args, transient=transient)
        return await proposal.evaluate(target_organizations=target_organizations, timeout=timeout)

    def propose(
        self,
        function: str,
        *args: str | bytes,
        transient: Mapping[str, bytes] | None = None,
        endorsing_organizations: Sequence[str] = (),
    ) -> Proposal:
        """A proposal to be endorsed by peers of all `endorsing_organizations`; the gateway chooses when there are none.

        `transient` goes to every endorser and not into the block.
        """
        return Proposal.create(
            self._connections,
            self._creator,
            self.channel,
            self.chaincode,
            (function, *args),
            transient=transient,
            endorsing_organizations=endorsing_organizations,
        )
