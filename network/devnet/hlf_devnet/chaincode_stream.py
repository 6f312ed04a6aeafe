"""The peer's connection to a chaincode server (chaincode as a service: the peer connects)."""

import asyncio
import contextlib
import logging
import random
import ssl
from typing import Final, Generic

from hlf_devnet.chaincode_messages import ChaincodeMessage
from hlf_devnet.chaincode_session import Answer, ChaincodeError, Context, ProtocolViolation, Session
from hlf_devnet.http2_stream import Http2Stream, StreamEnded

logger = logging.getLogger(__name__)

CONNECT_METHOD: Final = "/protos.Chaincode/Connect"
SHORTEST_PAUSE_SECONDS: Final = 0.05
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0


class ChaincodeClient(Generic[Context]):
    """Keeps one organization's connection to its chaincode server and runs transactions on it.

    `run` connects, and connects again when the stream breaks: at once when a transaction needs it, else with growing
    pauses. A transaction that finds no connection waits for one until the dial timeout.
    """

    def __init__(
        self,
        name: str,
        address: str,
        answer: Answer[Context],
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        dial_timeout_seconds: float = 3.0,
        execute_timeout_seconds: float = 30.0,
    ) -> None:
        self.name = name
        self.address = address
        self._answer = answer
        self._tls = tls
        self._server_name = server_name
        self._dial_timeout_seconds = dial_timeout_seconds
        self._execute_timeout_seconds = execute_timeout_seconds
        self._attempt: asyncio.Future[Session[Context] | None] = asyncio.get_running_loop().create_future()
        self._wanted = asyncio.Event()
        self._executing = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Returns once no transaction runs on it."""
        await self._idle.wait()

    @property
    def is_ready(self) -> bool:
        return self._attempt.done()

    async def execute(self, context: Context, message: ChaincodeMessage) -> ChaincodeMessage:
        """COMPLETED or ERROR of the chaincode. Raises ChaincodeError when there is no chaincode or no answer."""
        self._executing += 1
        self._idle.clear()
        try:
            return await self._execute(context, message)
        finally:
            self._executing -= 1
            if not self._executing:
                self._idle.set()

    async def _execute(self, context: Context, message: ChaincodeMessage) -> ChaincodeMessage:
        session = self._attempt.result() if self._attempt.done() else await self._connected()
        if session is None:
            raise ChaincodeError(
                f"could not launch chaincode {self.name}: connection to {self.name} failed: error cannot create "
                f"connection for {self.name}: error creating grpc connection to {self.address}"
            )
        return await session.execute(context, message, self._execute_timeout_seconds)

    async def _connected(self) -> Session[Context] | None:
        """The next session, if there is one before the dial timeout."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._dial_timeout_seconds):
                while True:
                    self._wanted.set()
                    if (session := await asyncio.shield(self._attempt)) is not None:
                        return session
        return None

    async def run(self) -> None:
        """Serves until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._one_session()
            pause = FIRST_PAUSE_SECONDS if self._attempt.done() else min(2 * pause, LONGEST_PAUSE_SECONDS)
            self._start_over()
            await asyncio.sleep(SHORTEST_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):  # noqa: S311  jitter, not a secret
                    await self._wanted.wait()
            self._wanted.clear()

    def _start_over(self) -> None:
        failed, self._attempt = self._attempt, asyncio.get_running_loop().create_future()
        if not failed.done():
            failed.set_result(None)

    async def _one_session(self) -> None:
        stream = Http2Stream(self.address, CONNECT_METHOD, tls=self._tls, server_name=self._server_name)
        session = Session(self._answer, self._is_registered, stream.send)
        reason = "it ended the stream"
        try:
            await stream.connect(session.receive)
            await stream.ended()
        except (StreamEnded, ProtocolViolation) as error:
            reason = str(error)
        finally:
            stream.close()
            session.terminate()
        if self._attempt.done():
            logger.warning("chaincode %s at %s is gone: %s", self.name, self.address, reason)

    def _is_registered(self, session: Session[Context]) -> None:
        logger.info("chaincode %s is connected at %s", self.name, self.address)
        self._attempt.set_result(session)
