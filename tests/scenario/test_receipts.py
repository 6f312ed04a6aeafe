"""A receipt proven off-line by `emr verify receipt`, and every alteration of it refused."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from emr_common.receipts import ReceiptRefused, check
from fabric_protos.common import common_pb2
from hlf.blocks import block_data_hash
from hlf.evidence import decode
from support.sharing_steps import Cast, Steps
from support.stack import Actor, Stack

ALTERATIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": lambda proof: proof.update(format="careledger-receipt-2"),
    "another channel": lambda proof: proof.update(channel="scare"),
    "another chaincode": lambda proof: proof.update(chaincode="emr2"),
    "another EMR": lambda proof: proof.update(receipt="0" * 32 + proof["receipt"][32:]),
    "another transaction": lambda proof: proof.update(receipt=proof["receipt"][:-1] + "x"),
    "no configuration": lambda proof: proof.update(configurations=[]),
    "the block as its own configuration": lambda proof: proof.update(configurations=[proof["block"]]),
    "no base64": lambda proof: proof.update(block="§"),
    "half a block": lambda proof: proof.update(block=proof["block"][: len(proof["block"]) // 8 * 4]),
    "a member more": lambda proof: proof.update(signature="trust me"),
    "a member less": lambda proof: proof.pop("channel"),
    "another reader": lambda proof: _in_block(proof, b'"reader":"', b'"reader":"x'),
    "another purpose": lambda proof: _in_block(proof, b'"purpose":"TREAT"', b'"purpose":"ETREAT"'),
    "another version": lambda proof: _in_block(proof, b'"version":1', b'"version":2'),
    "another time": lambda proof: _in_block(proof, b'"at":"2', b'"at":"3'),
    "another recipient": lambda proof: _in_block(proof, b'"recipientMsp":"', b'"recipientMsp":"x'),
}


def _in_block(proof: dict[str, Any], old: bytes, new: bytes) -> None:
    """Changes what the transaction wrote, with all hashes made to fit again, as a forger would."""
    block = common_pb2.Block.FromString(base64.b64decode(proof["block"]))
    envelopes = [bytes(envelope).replace(old, new) for envelope in block.data.data]
    assert envelopes != list(block.data.data)
    del block.data.data[:]
    block.data.data.extend(envelopes)
    block.header.data_hash = block_data_hash(envelopes)
    proof["block"] = base64.b64encode(block.SerializeToString()).decode()


async def emr(stack: Stack, *arguments: str) -> Any:
    """What the command prints as JSON."""
    environment = {**os.environ, "EMR_HOME": str(stack.system.home.root)}
    command = [sys.executable, "-m", "emr_deploy.cli", *arguments, "--json"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(printed)


async def proof_for(steps: Steps, actor: Actor, receipt: str) -> Any:
    return await steps.stack.call(actor, "records", "GET", f"/disclosures/{receipt}/proof")


def genesis_of(proof: dict[str, Any]) -> bytes:
    return decode(base64.b64decode(proof["configurations"][0])).header_hash


@pytest.fixture
async def proven(steps: Steps) -> tuple[Steps, str, dict[str, Any]]:
    await steps.share()
    receipt = await steps.receipt()
    return steps, receipt, (await proof_for(steps, steps.cast.other_physician, receipt)).required()


async def test_a_receipt_is_proven_by_the_command_alone_and_no_altered_one_is(
    proven: tuple[Steps, str, dict[str, Any]], tmp_path: Path
) -> None:
    steps, receipt, proof = proven
    genesis = (await emr(steps.stack, "verify", "channel", "--org", "a"))["genesis"]
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(proof))
    told = await emr(steps.stack, "verify", "receipt", str(file), "--genesis", genesis)
    owner = steps.stack.msp_id("a")
    assert (told["receipt"], told["ownerMsp"], told["recipientMsp"]) == (receipt, owner, steps.other_msp)
    assert (told["purpose"], told["version"], told["patientId"]) == ("TREAT", 1, steps.patient.patient_id)
    assert told["endorsedBy"] == sorted((steps.stack.msp_id("a"), steps.other_msp))
    for name, alter in ALTERATIONS.items():
        altered = json.loads(json.dumps(proof))
        alter(altered)
        with pytest.raises(ReceiptRefused):
            pytest.fail(f"{name}: {check(json.dumps(altered).encode(), bytes.fromhex(genesis), 'emr')}")
    with pytest.raises(ReceiptRefused, match="another channel"):
        check(json.dumps(proof).encode(), bytes(32), "emr")


async def test_both_hospitals_and_the_patient_get_the_same_proof_and_no_stranger_does(
    proven: tuple[Steps, str, dict[str, Any]], stack: Stack, cast: Cast
) -> None:
    steps, receipt, proof = proven
    for actor in (cast.healthcenter, cast.physician, steps.patient):
        given = (await proof_for(steps, actor, receipt)).required()
        assert check(json.dumps(given).encode(), genesis_of(proof), "emr").receipt == receipt
    stranger = await Steps.begin(stack, cast, notes=0)
    for actor, asked in (
        (stranger.patient, receipt),
        (cast.physician, f"{'0' * 32}.{receipt.partition('.')[2]}"),
        (cast.physician, f"{receipt.partition('.')[0]}.{'0' * 64}"),
    ):
        answer = await proof_for(steps, actor, asked)
        assert (answer.status, answer.code) == (404, "TRANSACTION_NOT_FOUND")
