"""A channel of two hospitals without servers or chaincode: simulate, endorse, order and commit by function calls."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from google.protobuf import timestamp_pb2
from hlf.certs import CertificateAuthority
from hlf.channel_config import config_of
from hlf.identity import SigningIdentity
from hlf_devnet.block_cutter import BatchSettings
from hlf_devnet.blockstore import data_hash
from hlf_devnet.bundle import Bundles
from hlf_devnet.definition_transaction import commit_definition
from hlf_devnet.envelopes import proposal_hash
from hlf_devnet.genesis import ChannelOrganization, ChannelSettings, genesis_block
from hlf_devnet.ledger import PeerLedger
from hlf_devnet.lifecycle import ChaincodeDefinition
from hlf_devnet.msp import MspRegistry
from hlf_devnet.policy import signature_policy
from hlf_devnet.simulator import SimulationResult, Simulator
from hlf_devnet.validated import ValidatedBlock
from hlf_devnet.validator import Validator
from support.devnet import MSP_IDS, ORDERER_MSP_ID, Member, new_member

CHANNEL = "care"
CHAINCODE = "kv"
BOTH = "AND('HospitalA.peer','HospitalB.peer')"
Code = transaction_pb2.TxValidationCode


@dataclass
class Envelope:
    """A transaction and its parts before signing, so that a test can spoil any of them."""

    creator: SigningIdentity
    endorsers: Sequence[SigningIdentity]
    results: bytes
    private: bytes | None = None
    chaincode: str = CHAINCODE
    version: str = "1.0"
    event: bytes = b""
    channel: str = CHANNEL
    nonce: bytes = field(default_factory=lambda: os.urandom(24))
    header: Mapping[str, Any] = field(default_factory=dict)
    input: bytes = b"what was called"
    proposal_hash: bytes | None = None

    @property
    def tx_id(self) -> str:
        return hashlib.sha256(self.nonce + self.creator.serialized).hexdigest()

    def with_(self, **changes: Any) -> "Envelope":
        return replace(self, **changes)

    def response_payload(self, header: Any, proposal_payload: bytes) -> bytes:
        action = proposal_pb2.ChaincodeAction(
            results=self.results,
            events=self.event,
            response=proposal_response_pb2.Response(status=200),
            chaincode_id=chaincode_pb2.ChaincodeID(name=self.chaincode, version=self.version),
        )
        bound = proposal_hash(header.channel_header, header.signature_header, proposal_payload)
        return bytes(
            proposal_response_pb2.ProposalResponsePayload(
                proposal_hash=bound if self.proposal_hash is None else self.proposal_hash,
                extension=action.SerializeToString(),
            ).SerializeToString()
        )

    def transaction(self, header: Any) -> bytes:
        proposal_payload = proposal_pb2.ChaincodeProposalPayload(input=self.input).SerializeToString()
        response = self.response_payload(header, proposal_payload)
        endorsements = [
            proposal_response_pb2.Endorsement(endorser=each.serialized, signature=each.sign(response + each.serialized))
            for each in self.endorsers
        ]
        payload = transaction_pb2.ChaincodeActionPayload(
            chaincode_proposal_payload=proposal_payload,
            action=transaction_pb2.ChaincodeEndorsedAction(
                proposal_response_payload=response, endorsements=endorsements
            ),
        )
        action = transaction_pb2.TransactionAction(header=header.signature_header, payload=payload.SerializeToString())
        return bytes(transaction_pb2.Transaction(actions=[action]).SerializeToString())

    def headers(self) -> Any:
        now = time.time_ns()
        channel_header = {
            "type": common_pb2.ENDORSER_TRANSACTION,
            "channel_id": self.channel,
            "tx_id": self.tx_id,
            "timestamp": timestamp_pb2.Timestamp(seconds=now // 10**9, nanos=now % 10**9),
            "extension": proposal_pb2.ChaincodeHeaderExtension(
                chaincode_id=chaincode_pb2.ChaincodeID(name=self.chaincode)
            ).SerializeToString(),
            **self.header,
        }
        return common_pb2.Header(
            channel_header=common_pb2.ChannelHeader(**channel_header).SerializeToString(),
            signature_header=common_pb2.SignatureHeader(
                creator=self.creator.serialized, nonce=self.nonce
            ).SerializeToString(),
        )

    def encode(self) -> bytes:
        header = self.headers()
        return self.signed(common_pb2.Payload(header=header, data=self.transaction(header)).SerializeToString())

    def signed(self, payload: bytes) -> bytes:
        return bytes(common_pb2.Envelope(payload=payload, signature=self.creator.sign(payload)).SerializeToString())


class Channel:
    """`ledgers` of both hospitals, at one height; `a` is that of HospitalA."""

    def __init__(self, folder: Path, members: Mapping[str, Member], batch: BatchSettings | None = None) -> None:
        self.folder = folder
        self.members = dict(members)
        self.batch = batch or BatchSettings()
        self.peers = {
            msp_id: SigningIdentity.from_msp_dir(members[msp_id].folder / "node", msp_id) for msp_id in MSP_IDS
        }
        orderer = members[ORDERER_MSP_ID]
        self.orderer_signer = SigningIdentity.from_msp_dir(orderer.folder / "node", ORDERER_MSP_ID)
        self.client = self.members["HospitalA"].identity("client")
        self.genesis = self._stored_genesis()
        self.bundles = Bundles({name: member.msp_dir for name, member in members.items()})
        bundle = self.bundles.of(config_of(self.genesis))
        self.msps, self.policies = bundle.msps, bundle.policies
        self.validator = Validator(CHANNEL, self.bundles)
        self.ledgers = {msp_id: PeerLedger.open(folder / "ledgers" / msp_id, msp_id, CHANNEL) for msp_id in MSP_IDS}

    @classmethod
    def create(cls, folder: Path, policy: str = BOTH) -> "Channel":
        """A new channel with the chaincode `kv` defined."""
        names = (*MSP_IDS, ORDERER_MSP_ID)
        channel = cls(folder, {msp_id: new_member(msp_id, folder / "msps" / msp_id) for msp_id in names})
        for member in channel.members.values():
            _write(member.folder / "ca.pem", member.authority.certificate_pem + member.authority.key_pem)
        channel.commit_block(channel.genesis)
        channel.define(ChaincodeDefinition(CHAINCODE, "1.0", 1, signature_policy(policy)))
        return channel

    @classmethod
    def open(cls, folder: Path) -> "Channel":
        """The channel that an earlier process left. The hospital that is behind gets the missing blocks."""
        members = {}
        for msp_id in (*MSP_IDS, ORDERER_MSP_ID):
            pem = (folder / "msps" / msp_id / "ca.pem").read_bytes()
            authority = CertificateAuthority.load(pem, pem)
            members[msp_id] = Member(msp_id, folder / "msps" / msp_id, authority, authority)
        channel = cls(folder, members)
        channel.catch_up()
        return channel

    def catch_up(self) -> None:
        ahead = max(self.ledgers.values(), key=lambda ledger: ledger.height)
        self.validator.register(ahead)
        for ledger in self.ledgers.values():
            while ledger.height < ahead.height:
                ledger.commit(self.validator.validate(ahead.block_bytes(ledger.height), ledger), {})

    @property
    def a(self) -> PeerLedger:
        return self.ledgers["HospitalA"]

    def define(self, definition: ChaincodeDefinition) -> None:
        peers = list(self.peers.values())
        transaction = commit_definition(self.a, CHANNEL, definition, self.orderer_signer, peers)
        assert transaction is not None
        assert self.commit(transaction.envelope) == ["VALID"]

    def simulate(self, run: Callable[[Simulator], None], ledger: PeerLedger | None = None) -> SimulationResult:
        simulator = Simulator(ledger or self.a, "a simulated transaction")
        try:
            simulator.enter(CHAINCODE)
            run(simulator)
            return simulator.finish()
        finally:
            simulator.close()

    def endorse(self, run: Callable[[Simulator], None], endorsers: Iterable[str] = MSP_IDS) -> Envelope:
        result = self.simulate(run)
        return Envelope(self.client, [self.peers[msp_id] for msp_id in endorsers], result.public, result.private)

    def put(self, key: str, value: bytes = b"value", endorsers: Iterable[str] = MSP_IDS) -> Envelope:
        return self.endorse(lambda simulator: simulator.put_state(CHAINCODE, key, value), endorsers)

    def put_private(self, collection: str, key: str, value: bytes, endorsers: Iterable[str] = MSP_IDS) -> Envelope:
        return self.endorse(lambda simulator: simulator.put_private(CHAINCODE, collection, key, value), endorsers)

    def block(self, envelopes: Sequence[bytes]) -> bytes:
        header = common_pb2.BlockHeader(
            number=self.a.height,
            previous_hash=self.a.chain_info().currentBlockHash,
            data_hash=data_hash(envelopes),
        )
        return bytes(
            common_pb2.Block(
                header=header,
                data=common_pb2.BlockData(data=envelopes),
                metadata=common_pb2.BlockMetadata(metadata=[_in_force(self.a.config_number), *[b""] * 4]),
            ).SerializeToString()
        )

    def commit(self, *transactions: Envelope | bytes) -> list[str]:
        """One block; the names of the validation codes."""
        contents, private = [], {}
        for index, transaction in enumerate(transactions):
            if isinstance(transaction, Envelope) and transaction.private is not None:
                private[index] = transaction.private
            contents.append(transaction if isinstance(transaction, bytes) else transaction.encode())
        validated = self.commit_block(self.block(contents), private)
        return [Code.Name(transaction.code) for transaction in validated.transactions]

    def commit_block(self, block: bytes, private: Mapping[int, bytes] | None = None) -> ValidatedBlock:
        for ledger in self.ledgers.values():
            validated = self.validator.validate(block, ledger)
            ledger.commit(validated, private or {})
        return validated

    def reopen(self, msp_id: str = "HospitalA") -> PeerLedger:
        self.ledgers[msp_id].close()
        self.ledgers[msp_id] = PeerLedger.open(self.folder / "ledgers" / msp_id, msp_id, CHANNEL)
        return self.ledgers[msp_id]

    def close(self) -> None:
        for ledger in self.ledgers.values():
            ledger.close()

    def _stored_genesis(self) -> bytes:
        """Made once: a genesis block holds a nonce and the time."""
        file = self.folder / "genesis.block"
        if not file.exists():
            _write(file, self.new_genesis(self.batch))
        return file.read_bytes()

    def new_genesis(self, batch: BatchSettings) -> bytes:
        """Block 0 of a channel of the same organizations."""
        return genesis_block(self._settings(batch))

    def _settings(self, batch: BatchSettings) -> ChannelSettings:
        msps = MspRegistry.from_dirs({name: member.msp_dir for name, member in self.members.items()})
        return ChannelSettings(
            channel=CHANNEL,
            organizations=[
                ChannelOrganization(msps.msp(msp_id), ("127.0.0.1", 7051 + index))
                for index, msp_id in enumerate(MSP_IDS)
            ],
            orderer=msps.msp(ORDERER_MSP_ID),
            orderer_address="127.0.0.1:7050",
            orderer_certificate=self.orderer_signer.certificate_pem,
            batch=batch,
        )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _in_force(configuration: int) -> bytes:
    """What an orderer says of the configuration with each block, unsigned: metadata SIGNATURES, the first."""
    value = common_pb2.OrdererBlockMetadata(last_config=common_pb2.LastConfig(index=configuration))
    return bytes(common_pb2.Metadata(value=value.SerializeToString()).SerializeToString())
