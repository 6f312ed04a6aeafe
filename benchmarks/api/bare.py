"""``python -m benchmarks.api.bare CONNECTION.json``: what the APIs are measured against, in a process of its own.

    GET  /nothing        a bare ASGI app: a small document
    GET  /read           one bare hlf call, ReadEmr, answered as it came: no token, no database, nothing opened
    POST /note/{emrId}   one bare hlf write, AddEmrNote of random bytes, answered once it is committed

As the services, it is served by uvicorn, and learns of commits from one stream.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvicorn
from emr_model.ledger.answers import NoteAdded
from emr_model.ledger.functions import Function
from hlf.commits import CommitTracker
from hlf.crypto import private_key_from_pem
from hlf.gateway import Contract, Endpoint, Gateway
from hlf.identity import SigningIdentity

NOTE_BYTES = 600
COMMIT_SECONDS = 60.0
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Bare:
    """``versions``: by EMR, how many notes it has."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._connection = connection
        self._running = AsyncExitStack()
        self._contract: Contract
        self._tracker: CommitTracker
        self._versions: dict[str, int] = {}

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path = scope["path"]
        if path == "/nothing":
            await _answer(send, b'{"status":"alive"}')
        elif path == "/read":
            await _answer(send, await self._read())
        else:
            await _answer(send, await self._note(path.rpartition("/")[2]))

    async def _live(self, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        await receive()
        connection = self._connection
        key = private_key_from_pem(connection["privateKey"].encode())
        signer = SigningIdentity(connection["mspId"], connection["certificate"].encode(), key)
        endpoint = Endpoint(connection["address"], connection["tlsCa"].encode())
        gateway = await self._running.enter_async_context(Gateway([endpoint]))
        self._tracker = await self._running.enter_async_context(CommitTracker(gateway, signer, connection["channel"]))
        self._contract = gateway.contract(signer, connection["channel"], connection["chaincode"])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._running.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _read(self) -> bytes:
        own = [self._connection["mspId"]]
        arguments = (self._connection["emrId"], "1", "0")
        return await self._contract.evaluate(Function.READ_EMR.wire_name, *arguments, target_organizations=own)

    async def _note(self, emr_id: str) -> bytes:
        sealed, version = os.urandom(NOTE_BYTES), self._versions.get(emr_id, 0)
        digest = hashlib.sha256(sealed).hexdigest()
        proposal = self._contract.propose(
            Function.ADD_EMR_NOTE.wire_name,
            *(emr_id, str(version), secrets.token_hex(16), "true", digest, digest),
            transient={"note": sealed},
            endorsing_organizations=self._connection["endorsers"],
        )
        transaction = await proposal.endorse()
        pending = self._tracker.expect(transaction.transaction_id)
        await transaction.submit()
        commit = await pending.outcome(COMMIT_SECONDS)
        assert commit.is_valid, commit.validation_name
        self._versions[emr_id] = NoteAdded.from_json(transaction.result).version
        return json.dumps({"transactionId": transaction.transaction_id, "block": commit.block_number}).encode()


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    told = json.loads(Path(sys.argv[1]).read_text())
    uvicorn.run(Bare(told), host="127.0.0.1", port=told["port"], log_config=None, access_log=False, lifespan="on")
