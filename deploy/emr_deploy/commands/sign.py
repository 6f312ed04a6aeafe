"""`emr sign`: whoever keeps the own key sees what is asked of them, and signs it. Needs no network."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric import ec
from emr_model.ledger.functions import Function
from hlf import crypto
from hlf.blocks import BlockTransaction
from hlf.gateway import ProposedCall, read_proposal, read_transaction

from emr_deploy.output import AsJson, Output
from emr_deploy.system import UsageError

SHOWN_CHARACTERS = 300


class NotWhatItSays(Exception):
    """The bytes to be signed contradict themselves, what was signed before, or the key."""


def register(app: typer.Typer) -> None:
    app.command()(sign)


def sign(
    step: Annotated[Path, typer.Argument(help="What prepare or endorse answered, as a file; - for standard input.")],
    key: Annotated[Path, typer.Option(help="The private key, PEM.", exists=True)],
    proposal: Annotated[
        Path | None, typer.Option(help="For what endorse answered: what prepare had answered.", exists=True)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a prepared step would do, and sign it with a key that stays here."""
    private_key = _private_key(key)
    signed = _bytes(_document(step))
    try:
        shown = _shown(signed, None if proposal is None else _bytes(_document(proposal)), private_key)
    except ValueError as error:
        raise NotWhatItSays(str(error)) from error
    width = max(len(name) for name, _ in shown) + 2
    for name, value in shown:
        print(f"{name:<{width}}{value}", file=sys.stderr)
    if not yes and not typer.confirm("Sign this?", err=True):
        raise typer.Exit(1)
    signature = base64.b64encode(crypto.sign(private_key, signed)).decode()
    Output(as_json=as_json).result({"signature": signature}, signature)


def _shown(signed: bytes, proposal: bytes | None, key: ec.EllipticCurvePrivateKey) -> list[tuple[str, str]]:
    """ValueError if the bytes are not what a person could be shown."""
    if proposal is None:
        call = read_proposal(signed)
        _require_own(call, key)
        return [*_call(call), ("digest", crypto.sha256(signed).hex())]
    call = read_proposal(proposal)
    _require_own(call, key)
    effects = _effects(read_transaction(signed, proposal))
    return [*_call(call), *effects, ("digest", crypto.sha256(signed).hex())]


def _require_own(call: ProposedCall, key: ec.EllipticCurvePrivateKey) -> None:
    public_key = call.creator.certificate.public_key()
    if public_key != key.public_key():
        raise ValueError("the proposal is in the name of another key")


def _call(call: ProposedCall) -> list[tuple[str, str]]:
    known = Function.by_wire_name(call.function)
    names = () if known is None else known.spec.arguments
    arguments = [
        (names[place] if place < len(names) else f"argument {place + 1}", _readable(value))
        for place, value in enumerate(call.arguments)
    ]
    transient = [(f"{name} #", f"SHA-256 {sha256}") for name, sha256 in call.transient_hashes.items()]
    return [
        ("function", call.function),
        *((f"  {name}", value) for name, value in [*arguments, *transient]),
        ("channel", call.channel),
        ("chaincode", call.chaincode),
        ("in the name", f"{call.creator.common_name} of {call.creator.msp_id}"),
        ("made at", f"{call.at.isoformat(timespec='seconds')}Z"),
        ("transaction", call.transaction_id),
    ]


def _effects(transaction: BlockTransaction) -> list[tuple[str, str]]:
    endorsers = ", ".join(sorted({endorser.msp_id for endorser in transaction.endorsers}))
    writes = [("writes", _readable(write.key.encode())) for write in transaction.writes]
    private = [("writes", f"privately in {write.collection}") for write in transaction.collection_writes]
    return [
        ("endorsed by", endorsers),
        ("answer", f"{transaction.response_status} {_readable(transaction.response_payload)}"),
        *writes,
        *private,
    ]


def _readable(value: bytes) -> str:
    """No control character reaches the terminal: it could hide what is above it."""
    text = value.decode("utf-8", "replace").replace("\x00", "~").strip("~")
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= SHOWN_CHARACTERS else f"{plain[:SHOWN_CHARACTERS]}… ({len(value)} bytes)"


def _document(path: Path) -> Any:
    text = sys.stdin.read() if str(path) == "-" else _read(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path} is not JSON") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read") from error


def _bytes(document: Any) -> bytes:
    """Raises UsageError, or NotWhatItSays for another digest than that of the bytes."""
    try:
        signed = base64.b64decode(document["bytes"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise UsageError("this is not what prepare or endorse answered") from error
    if document.get("digest") != crypto.sha256(signed).hex():
        raise NotWhatItSays("the digest is not that of the bytes")
    return signed


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        return crypto.private_key_from_pem(path.read_bytes())
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is not an unencrypted P-256 key") from error
