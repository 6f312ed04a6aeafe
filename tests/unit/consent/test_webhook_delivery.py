"""Webhooks are told what changed: in order, signed, at least once, and by one instance; whatever fails."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from emr_common.locks import AdvisoryLocks
from emr_common.problems import Problem
from emr_common.sealing import WrappingKey
from emr_consent.changes import ChangeStore
from emr_consent.webhooks import signing
from emr_consent.webhooks.deliverer import Deliverer, Patience
from emr_consent.webhooks.sending import Sender
from emr_consent.webhooks.store import MOST_WEBHOOKS, WebhookStore
from emr_readmodel.hospital import webhook, webhook_secret
from prometheus_client import REGISTRY
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs
from support.read_model import Hospital
from support.webhook_receiver import Posted, Receiver, hang_up, status

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
QUICK = Patience(first_seconds=0.02, longest_seconds=0.1)
BOTH = ["disclosure", "sharing"]
OTHER = "HospitalB"

PROGRAM = """
import asyncio, ipaddress, sys
from pathlib import Path
from emr_common.locks import AdvisoryLocks
from emr_common.sealing import WrappingKey
from emr_consent.changes import ChangeStore
from emr_consent.webhooks.deliverer import Deliverer, Patience
from emr_consent.webhooks.sending import Sender
from emr_consent.webhooks.store import WebhookStore
from emr_readmodel import engine as engines

async def main(url, keyset, ca_file):
    engine = engines.create(url, 3)
    networks = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
    store = WebhookStore(engine, WrappingKey.from_file(Path(keyset)))
    async with AdvisoryLocks.opened(engine.url, "tests") as locks, Sender(networks, Path(ca_file)).opened() as sender:
        async with Deliverer(store, ChangeStore(engine), sender, locks, Patience()).running():
            await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


class Teller:
    """A hospital with a ledger, and its webhook ``desk``, which was made before anything happened."""

    def __init__(self, database: AsyncEngine, wrapping: WrappingKey, receiver: Receiver) -> None:
        self.database = database
        self.hospital = Hospital(database, wrapping)
        self.store = WebhookStore(database, wrapping)
        self.changes = ChangeStore(database)
        self.receiver = receiver
        self.secret = b""

    async def begin(self) -> None:
        self.hospital.writer.cut(self.hospital.writer.register("HospitalA"), self.hospital.writer.register(OTHER))
        await self.hospital.project()
        self.secret = (await self.put()).secret or b""

    async def put(self, *, kinds: list[str] = BOTH, new_secret: bool = False, name: str = "desk") -> Any:
        position = await self.changes.newest_block()
        return await self.store.put(name, self.receiver.url, kinds, position=position, by="a-1", new_secret=new_secret)

    async def share(self) -> list[str]:
        """A sharing from request to ending, a block each; the types of the events in their order."""
        writer = self.hospital.writer
        patient, creation = await self.hospital.admit()
        writer.cut(creation)
        access, request = writer.request(patient, OTHER)
        writer.cut(request)
        approved, approvals = writer.approve(patient, OTHER, access, 0)
        writer.cut(*approvals)
        _, shared = writer.share(patient, OTHER, approved, 0, b"sealed")
        writer.cut(shared)
        writer.cut(writer.disclose(patient, OTHER, 1, 0), writer.disclose(patient, OTHER, 1, 0))
        await self.hospital.project()
        return ["sharing", "disclosure", "disclosure"]

    @asynccontextmanager
    async def delivering(self, patience: Patience = QUICK) -> AsyncIterator[Deliverer]:
        async with AsyncExitStack() as stack:
            locks = await stack.enter_async_context(AdvisoryLocks.opened(self.database.url, "tests"))
            sender = await stack.enter_async_context(Sender(LOOPBACK, self.receiver.ca_file).opened())
            deliverer = Deliverer(self.store, self.changes, sender, locks, patience)
            await stack.enter_async_context(deliverer.running())
            yield deliverer

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.01)

    async def until_told(self, name: str = "desk") -> None:
        newest = await self.changes.newest_block()
        async with asyncio.timeout(60):
            while (await self.store.get(name)).position < newest:
                await asyncio.sleep(0.01)

    @property
    def posted(self) -> list[Posted]:
        return self.receiver.posted

    @property
    def types(self) -> list[str]:
        return [one.event["type"] for one in self.posted]


@pytest.fixture
async def teller(database: AsyncEngine, wrapping: WrappingKey, receiver: Receiver) -> Teller:
    made = Teller(database, wrapping, receiver)
    await made.begin()
    return made


async def test_events_come_in_the_order_of_blocks_and_signed(teller: Teller) -> None:
    types = await teller.share()
    async with teller.delivering():
        await teller.until_told()
    assert teller.types == types
    blocks = [one.event["block"] for one in teller.posted]
    assert blocks == sorted(blocks)
    assert len({one.id for one in teller.posted}) == 3
    assert all(one.is_signed_by(signing.shown(teller.secret)) for one in teller.posted)
    assert not teller.posted[0].is_signed_by(signing.shown(signing.new_secret()))
    assert teller.posted[0].event["data"]["state"] == "shared"
    assert (await teller.store.get("desk")).delivered == []


async def test_only_the_kinds_that_were_asked_for_are_told(teller: Teller) -> None:
    await teller.put(kinds=["disclosure"])
    await teller.share()
    async with teller.delivering():
        await teller.until_told()
    assert teller.types == ["disclosure", "disclosure"]


async def test_both_secrets_sign_while_one_takes_the_place_of_the_other(teller: Teller) -> None:
    new = signing.shown((await teller.put(new_secret=True)).secret)
    await teller.share()
    async with teller.delivering():
        await teller.until_told()
    old = signing.shown(teller.secret)
    assert all(one.is_signed_by(old) and one.is_signed_by(new) for one in teller.posted)
    async with teller.database.begin() as connection:
        a_day = sa.func.now() - timedelta(hours=25)
        replaced = webhook_secret.c.replaced_at.is_not(None)
        await connection.execute(sa.update(webhook_secret).where(replaced).values(replaced_at=a_day))
    assert [signing.shown(one) for one in await teller.store.secrets("desk")] == [new]


async def test_what_failed_is_told_again_before_what_came_after_it(teller: Teller) -> None:
    types = await teller.share()
    teller.receiver.answers = [hang_up, status(503), status(302), status(200), status(500)]
    async with teller.delivering():
        await teller.until_told()
    assert teller.types == ["sharing"] * 4 + ["disclosure"] * 3
    told = list(dict.fromkeys(one.id for one in teller.posted))
    assert [next(one for one in teller.posted if one.id == event).event["type"] for event in told] == types
    stands = await teller.store.get("desk")
    assert (stands.state, stands.failures, stands.last_failure, stands.not_before) == ("active", 0, None, None)


async def test_what_was_told_of_a_block_is_not_told_again_for_what_failed_of_it(teller: Teller) -> None:
    await teller.share()
    teller.receiver.answers = [status(200), status(200), status(500)]
    async with teller.delivering():
        await teller.until_told()
    assert teller.types == ["sharing"] + ["disclosure"] * 3
    assert teller.posted[2].id == teller.posted[3].id != teller.posted[1].id


async def test_a_webhook_that_fails_for_long_is_disabled_and_goes_on_where_it_was(teller: Teller) -> None:
    types = await teller.share()
    teller.receiver.answers = [status(500)]
    before = REGISTRY.get_sample_value("emr_webhook_deliveries_total", {"outcome": "STATUS_5XX"}) or 0
    with capture_logs() as logs:
        async with teller.delivering(Patience(give_up_after=timedelta())):
            await teller.until(lambda: any(one["event"] == "webhook_disabled" for one in logs))
            await teller.until(lambda: REGISTRY.get_sample_value("emr_webhooks", {"state": "disabled"}) == 1)
    (line,) = [one for one in logs if one["event"] == "webhook_disabled"]
    assert {**line} == {
        "event": "webhook_disabled", "log_level": "error", "webhook_id": "desk", "failure": "STATUS_500"
    }  # fmt: skip
    assert REGISTRY.get_sample_value("emr_webhook_deliveries_total", {"outcome": "STATUS_5XX"}) == before + 1
    stands = await teller.store.get("desk")
    assert (stands.state, stands.last_failure, len(teller.posted)) == ("disabled", "STATUS_500", 1)
    await teller.put()
    async with teller.delivering():
        await teller.until_told()
    assert teller.types == ["sharing", *types]


async def test_a_receiver_that_is_gone_is_not_asked_again(teller: Teller) -> None:
    await teller.share()
    teller.receiver.answers = [status(410)]
    with capture_logs() as logs:
        async with teller.delivering():
            await teller.until(lambda: any(one["event"] == "webhook_disabled" for one in logs))
    assert len(teller.posted) == 1


async def test_a_webhook_that_fails_holds_no_other_up(teller: Teller) -> None:
    kept = await teller.store.put(
        "broken", "https://no-such-name.invalid/", BOTH, position=-1, by="a-1", new_secret=False
    )
    assert kept.is_new
    types = await teller.share()
    async with teller.delivering():
        await teller.until_told()
    assert teller.types == types
    assert (await teller.store.get("broken")).last_failure in (None, "NAME_UNKNOWN")


async def test_two_instances_tell_each_event_once(teller: Teller) -> None:
    async with teller.delivering(), teller.delivering():
        for _ in range(3):
            await teller.share()
            await teller.until_told()
    assert len(teller.posted) == len({one.id for one in teller.posted}) == 9


async def test_a_webhook_that_is_changed_or_deleted_meanwhile_is_not_moved(teller: Teller) -> None:
    await teller.share()
    known = await teller.store.get("desk")
    await teller.put()
    assert not await teller.store.reached(known, 99)
    assert not await teller.store.told(known, "id")
    assert not await teller.store.failed(known, "TIMEOUT", again_in=timedelta(), give_up_after=timedelta())
    assert (await teller.store.get("desk")).position == known.position
    await teller.store.delete("desk")
    with pytest.raises(Problem, match="WEBHOOK_NOT_FOUND"):
        await teller.store.delete("desk")
    async with teller.database.connect() as connection:
        assert not (await connection.execute(sa.select(webhook_secret))).all()


async def test_there_are_so_many_webhooks_and_no_more(teller: Teller) -> None:
    for number in range(MOST_WEBHOOKS - 1):
        await teller.put(name=f"more-{number}")
    with pytest.raises(Problem, match="WEBHOOK_LIMIT"):
        await teller.put(name="one-too-many")
    assert not (await teller.put()).is_new


async def test_an_instance_killed_in_the_middle_leaves_its_work_to_the_next(
    teller: Teller, keyset: Path, tmp_path: Path
) -> None:
    """kill -9 after the receiver took an event and before the sender knew: it comes again, under the same id."""
    types = await teller.share()
    program = tmp_path / "deliver.py"
    program.write_text(PROGRAM)
    url = teller.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(program), url, str(keyset), str(teller.receiver.ca_file)], stderr=log
        )

    def kill(handler: Any) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        hang_up(handler)

    teller.receiver.answers = [status(200), kill]
    await teller.until(lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    async with teller.delivering():
        await teller.until_told()
    ids = [one.id for one in teller.posted]
    assert (len(ids), ids[1]) == (4, ids[2])
    assert [json.loads(one.body)["type"] for one in teller.posted] == [types[0], *["disclosure"] * 3]


async def test_secrets_are_sealed_at_rest(teller: Teller) -> None:
    async with teller.database.connect() as connection:
        (sealed,) = (await connection.execute(sa.select(webhook_secret.c.sealed_secret))).scalars()
        shown = (await connection.execute(sa.select(webhook))).mappings().one()
    assert teller.secret not in bytes(sealed)
    assert secrets.compare_digest((await teller.store.secrets("desk"))[0], teller.secret)
    assert signing.shown(teller.secret) not in str(dict(shown))
