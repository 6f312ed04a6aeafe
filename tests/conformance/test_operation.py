"""Devnet as a process: what survives, what is limited, what its control interface does."""

import asyncio
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import grpc
import httpx
import pytest
from fabric_protos.common import common_pb2
from hlf.commits import CommitTracker
from hlf.errors import HlfError
from hlf.gateway import Gateway, Timeouts
from hlf.identity import SigningIdentity
from hlf_devnet import moment
from hlf_devnet.blockstore import TABLE
from hlf_devnet.data_format import FORMAT
from hlf_devnet.database import connect
from support import raw_calls as raw
from support.devnet import Devnet, new_devnet, running_devnet
from support.ports import free_address
from support.transactions import Client

A, B = "HospitalA", "HospitalB"


@pytest.fixture
async def gateway_of_devnet(devnet: Devnet) -> AsyncIterator[Gateway]:
    async with devnet.gateway(A) as gateway:
        yield gateway


async def test_a_stop_is_clean_and_a_restart_keeps_private_data_between_endorsement_and_commit(tmp_path: Path) -> None:
    async with running_devnet(tmp_path) as devnet:
        signer, collection = devnet.member(A), f"_implicit_org_{A}"
        async with devnet.gateway(A) as gateway:
            client = Client(gateway, signer)
            transaction = await client.endorse(
                "put_private", collection, "k", transient={"value": b"private"}, endorsers=[A]
            )
            assert await devnet.stop() == 0
            await devnet.start()
            assert (await client.commit(transaction)).validation_code == 0
            assert await client.evaluate("get_private", collection, "k", targets=[A]) == "private"


async def test_a_copy_of_one_moment_has_everything_private_of_the_blocks_that_it_has(tmp_path: Path) -> None:
    collection, keys_at = f"_implicit_org_{A}", dict[str, int]()
    async with running_devnet(tmp_path) as devnet, devnet.gateway(A) as gateway:
        client = Client(gateway, devnet.member(A))

        async def write(writer: int) -> None:
            for number in range(2000):
                key = f"{writer}-{number}"
                commit = await client.submit("put_private", collection, key, transient={"value": key.encode()})
                keys_at[key] = commit.block_number

        writers = [asyncio.create_task(write(number)) for number in range(4)]
        copies = [await asyncio.to_thread(copied, tmp_path / "data", tmp_path / f"copy-{n}") for n in range(10)]
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        assert all(len(set(heights)) == 1 for _, heights in copies)
        await devnet.stop()
        (tmp_path / "data").rename(tmp_path / "first")
        copy, heights = copies[-1]
        copy.rename(tmp_path / "data")
        await devnet.start()
        kept = [key for key, block in keys_at.items() if block < heights[0]]
        assert kept
        for key in kept:
            assert await client.evaluate("get_private", collection, key, targets=[A]) == key


def copied(source: Path, target: Path) -> tuple[Path, list[int]]:
    """The copy, and how many blocks the orderer and each peer have in it."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sqlite3*"))
    heights = []
    with moment.one_moment(source) as databases:
        for path, database in databases.items():
            with closing(sqlite3.connect(target / path.relative_to(source))) as copy:
                database.backup(copy)
                if path.name != "transient.sqlite3":
                    heights += copy.execute("SELECT count(*) FROM block").fetchone()
    return target, heights


def test_a_copy_of_one_moment_waits_for_no_peer_that_gets_no_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moment, "PAUSE_SECONDS", 0.0)
    for file, height in (("A/ledger", 2), ("B/ledger", 1), ("orderer/orderer", 2)):
        path = tmp_path / f"{file}.sqlite3"
        path.parent.mkdir()
        with closing(connect(path)) as database:
            database.execute(TABLE)
            rows = [(number, bytes([number]), b"", b"") for number in range(height)]
            database.executemany("INSERT INTO block VALUES (?, ?, ?, ?)", rows)
    with moment.one_moment(tmp_path) as databases:
        assert [path.parent.name for path in databases] == ["A", "B", "orderer"]


async def test_calls_over_the_limit_are_turned_away_as_a_fabric_peer_does(tmp_path: Path) -> None:
    async with running_devnet(tmp_path, settings={"limits": {"gateway_calls": 3, "deliver_streams": 2}}) as devnet:
        signer = devnet.member(A)
        async with raw.calls_of(devnet.endpoint(A)) as calls:
            waiting = [
                calls.gateway.CommitStatus(raw.commit_status(signer, f"unknown-{number}")) for number in range(3)
            ]
            streams = [calls.deliver.Deliver(iter([raw.seek(signer, "newest", raw.NEVER)])) for _ in range(2)]
            for stream in streams:
                await stream.read()
            refusal = await raw.refusal_of(calls.gateway.Evaluate(raw.evaluate(raw.proposal(signer, "get", "k"))))
            assert (refusal.code, refusal.message) == (
                grpc.StatusCode.UNKNOWN,
                "too many requests for /gateway.Gateway, exceeding concurrency limit (3)",
            )
            third = calls.deliver.Deliver()  # sends nothing: it is turned away unread
            assert (await third.code(), await third.details()) == (
                grpc.StatusCode.UNKNOWN,
                "too many requests for /protos.Deliver, exceeding concurrency limit (2)",
            )
            for call in (*waiting, *streams):
                call.cancel()
            await asyncio.sleep(0.2)
            answer = await calls.gateway.Evaluate(raw.evaluate(raw.proposal(signer, "get", "k")))
            assert answer.result.status == 200


async def test_the_control_interface_counts_calls_and_stops_and_starts_single_peers(devnet: Devnet) -> None:
    before = await devnet.status()
    async with devnet.gateway(B) as gateway_b:
        client = Client(gateway_b, devnet.member(B))
        await client.evaluate("get", "k")
        after = await devnet.status()
        assert after["calls"]["Evaluate"] == before["calls"].get("Evaluate", 0) + 1
        await devnet.stop_peer(B)
        stopped = {one["msp_id"]: one["running"] for one in (await devnet.status())["organizations"]}
        assert stopped == {A: True, B: False}
        await devnet.stop_peer(B)
        await devnet.start_peer(B)
        await devnet.start_peer(B)
        await devnet.wait_for_chaincode(B)
        await client.evaluate("get", "k")


async def test_the_control_interface_knows_no_other_organizations(devnet: Devnet) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        await devnet.stop_peer("Nobody")


async def test_a_stopped_peer_ends_what_waits_at_it(tmp_path: Path) -> None:
    async with running_devnet(tmp_path) as devnet, raw.calls_of(devnet.endpoint(B)) as calls:
        waiting = calls.gateway.CommitStatus(raw.commit_status(devnet.member(B), "unknown"))
        await asyncio.sleep(0.2)
        await devnet.stop_peer(B)
        with pytest.raises(grpc.aio.AioRpcError):
            await waiting


def devnet_says(config: Path) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "hlf_devnet", str(config)], capture_output=True, text=True, timeout=30, check=False
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"colour": "blue"}, "colour: Extra inputs are not permitted"),
        ({"channel": "Not A Channel"}, "channel: String should match pattern"),
        ({"chaincodes": []}, "an organization runs a chaincode that is not defined: conformance"),
        ({"chaincodes": [{"name": "conformance", "sequence": 2}]}, "sequence 2 given, 1 expected"),
    ],
)
def test_a_wrong_configuration_ends_devnet_with_one_line_that_names_the_field(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    devnet = new_devnet(tmp_path, settings=settings)
    code, said = devnet_says(devnet.write_config())
    assert code == 1
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"FORMAT": f"{FORMAT + 1}\n"},
            f"its format is '{FORMAT + 1}', and this devnet reads and writes format {FORMAT} only",
        ),
        ({"FORMAT": ""}, "its format is ''"),
        ({"something": "else"}, "it holds files and no format number"),
    ],
)
def test_a_data_folder_of_another_format_is_refused_in_one_line_and_left_alone(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    devnet = new_devnet(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    for name, content in files.items():
        (data / name).write_text(content)
    code, said = devnet_says(devnet.write_config())
    assert code == 1
    assert f"devnet ends: {data}: {message}" in said
    assert "Traceback" not in said
    assert {file.name: file.read_text() for file in data.iterdir()} == files


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    address = free_address()
    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(lambda reader, writer: None, host, int(port))
    devnet = new_devnet(tmp_path)
    object.__setattr__(devnet.members[A], "peer_address", address)
    code, said = await asyncio.to_thread(devnet_says, devnet.write_config())
    server.close()
    assert code == 1
    assert f"cannot listen on {address}" in said
    assert "Traceback" not in said


async def test_one_stream_settles_many_transactions_without_a_commit_status_call(
    devnet: Devnet, gateway_of_devnet: Gateway
) -> None:
    before = (await devnet.status())["calls"].get("CommitStatus", 0)
    client = Client(gateway_of_devnet, devnet.member(A))
    async with CommitTracker(client.gateway, client.signer, "care") as tracker:

        async def one(number: int) -> int:
            transaction = await client.endorse("put", f"t-{number}", "v")
            pending = tracker.expect(transaction.transaction_id)
            await transaction.submit()
            return (await pending.outcome(20)).validation_code

        assert set(await asyncio.gather(*(one(number) for number in range(20)))) == {0}
    assert (await devnet.status())["calls"].get("CommitStatus", 0) == before


async def test_a_revoked_certificate_is_refused_everywhere_as_soon_as_the_list_is_there(tmp_path: Path) -> None:
    async with running_devnet(tmp_path) as devnet, devnet.gateway("HospitalA") as gateway:
        leaving = devnet.member("HospitalA", "leaving")
        client = Client(gateway, leaving)
        endorsed = await client.endorse("put", "k", "v")
        async with raw.calls_of(devnet.endpoint("HospitalA")) as calls:
            stream = calls.deliver.Deliver(iter([raw.seek(leaving, "newest", raw.NEVER)]))
            assert (await stream.read()).HasField("block")
            crl = devnet.members["HospitalA"].authority.crl([(serial_number(leaving), datetime.now(UTC))])
            devnet.members["HospitalA"].crl_file.parent.mkdir(exist_ok=True)
            devnet.members["HospitalA"].crl_file.write_bytes(crl)
            await asyncio.sleep(0.1)
            error = await client.refusal("get", "k")
            assert "access denied: channel [care] creator org [HospitalA]" in str(error)
            with pytest.raises(Exception, match="FORBIDDEN"):
                await endorsed.submit()
            await Client(gateway, devnet.member("HospitalA")).submit("put", "k", "v")
            assert (await stream.read()).status == common_pb2.FORBIDDEN


def serial_number(identity: SigningIdentity) -> int:
    return identity.identity.certificate.serial_number


async def test_a_full_disk_is_told_in_one_line_and_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    async with running_devnet(tmp_path) as devnet:
        assert devnet.process is not None
        signer, acknowledged = devnet.member(A), []
        resource.prlimit(devnet.process.pid, resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        async with devnet.gateway(A, Timeouts(endorse=2, submit=2, commit_status=2, connect=1)) as gateway:
            for number in range(1_000):
                try:
                    status = await Client(gateway, signer).submit("put", f"k{number}", "v" * 5_000)
                except HlfError:
                    break
                acknowledged.append(status.transaction_id)
        assert await asyncio.wait_for(devnet.process.wait(), 20) == 1
        (line,) = [line for line in devnet.log.read_text().splitlines() if "devnet ends" in line]
        assert re.search(r"/data/\w+: block \d+ cannot be written", line)
        assert "Traceback" not in devnet.log.read_text()
        await devnet.start()
        async with devnet.gateway(A) as gateway:
            statuses = await asyncio.gather(*(Client(gateway, signer).status(one) for one in acknowledged))
        assert {status.validation_code for status in statuses} == {0}


async def test_a_flipped_byte_is_told_in_one_line_and_nothing_is_served(tmp_path: Path) -> None:
    async with running_devnet(tmp_path) as devnet:
        async with devnet.gateway(A) as gateway:
            client = Client(gateway, devnet.member(A))
            await client.submit("put", "k", "a value to be found in the file")
        assert await devnet.stop() == 0
        file = devnet.folder / "data" / A / "ledger.sqlite3"
        content = file.read_bytes()
        assert b"a value to be found" in content
        file.write_bytes(content.replace(b"a value to be found", b"A value to be found"))
        code, said = await asyncio.to_thread(devnet_says, devnet.folder / "devnet.yaml")
        assert code == 1
        assert re.search(rf"/data/{A}: block \d+", said)
        assert "Traceback" not in said


async def test_a_definition_with_the_next_sequence_is_committed_at_a_restart(tmp_path: Path) -> None:
    either = {"signature": f"OR('{A}.peer','{B}.peer')"}
    async with running_devnet(tmp_path) as devnet:
        await devnet.stop()
        devnet.settings = {"chaincodes": [{"name": "conformance", "sequence": 2, "endorsement": either}]}
        await devnet.start()
        async with devnet.gateway(A) as gateway:
            await Client(gateway, devnet.member(A)).submit("put", "k", "by A alone", endorsers=[A])
        await devnet.stop()
        await devnet.start()
        assert (await devnet.status())["height"] == 4
