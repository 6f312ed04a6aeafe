import grpc
import pytest
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2
from hlf import crypto
from hlf.certs import CertificateAuthority, Purpose, certificate_to_pem, private_key_to_pem, public_key_of
from hlf.errors import EndorseError
from hlf.gateway import (
    Endpoint,
    Gateway,
    NotSigned,
    read_proposal,
    sign_commit_status_request,
    sign_proposal,
    sign_transaction,
)
from hlf.gateway.headers import transaction_id_of
from support.hlf_blocks import new_member
from support.hlf_peer import endorsed, evaluated, gateway_to, scripted_peer

MEMBER = new_member()
KEY = public_key_of(MEMBER.identity.certificate)


async def test_a_proposal_says_what_fabric_reads() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        contract = gateway.contract(MEMBER, "care", "kv")
        proposal = contract.propose("put", "k", b"\xff", transient={"t": b"s"}, endorsing_organizations=["A", "B"])
        await proposal.endorse()
    [(_, request)] = peer.calls
    assert (request.channel_id, list(request.endorsing_organizations)) == ("care", ["A", "B"])
    sent = proposal_pb2.Proposal.FromString(request.proposed_transaction.proposal_bytes)
    header = common_pb2.Header.FromString(sent.header)
    channel = common_pb2.ChannelHeader.FromString(header.channel_header)
    signature = common_pb2.SignatureHeader.FromString(header.signature_header)
    assert (channel.type, channel.channel_id, channel.tx_id) == (3, "care", proposal.transaction_id)
    assert channel.timestamp.seconds > 0
    assert signature.creator == MEMBER.serialized
    assert proposal.transaction_id == transaction_id_of(signature.nonce, signature.creator) == request.transaction_id
    payload = proposal_pb2.ChaincodeProposalPayload.FromString(sent.payload)
    spec = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input).chaincode_spec
    assert (spec.chaincode_id.name, list(spec.input.args)) == ("kv", [b"put", b"k", b"\xff"])
    assert dict(payload.TransientMap) == {"t": b"s"}
    signed = request.proposed_transaction
    assert crypto.verify(KEY, signed.signature, signed.proposal_bytes)


async def test_a_proposal_whose_parts_contradict_each_other_is_not_shown_to_anybody() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        proposal = gateway.contract(MEMBER, "care", "kv").propose("put", "k", transient={"t": b"s"})
    sent = gateway_pb2.ProposedTransaction.FromString(proposal.bytes).proposal.proposal_bytes
    call = read_proposal(sent)
    assert (call.channel, call.function, call.arguments) == ("care", "put", (b"k",))
    assert call.transient_hashes == {"t": crypto.sha256(b"s").hex()}
    other_nonce = proposal_pb2.Proposal.FromString(sent)
    header = common_pb2.Header.FromString(other_nonce.header)
    creator = common_pb2.SignatureHeader.FromString(header.signature_header).creator
    header.signature_header = common_pb2.SignatureHeader(creator=creator, nonce=b"other").SerializeToString()
    other_nonce.header = header.SerializeToString()
    other_chaincode = proposal_pb2.Proposal.FromString(sent)
    other_chaincode.payload = other_chaincode.payload.replace(b"kv", b"xy")
    for altered in (other_nonce, other_chaincode):
        with pytest.raises(ValueError, match=r"transaction id|another chaincode"):
            read_proposal(altered.SerializeToString())
    for garbage in (b"", b"\xff" * 40, sent[:-9]):
        with pytest.raises(ValueError, match="proposal"):
            read_proposal(garbage)


async def test_no_two_proposals_have_the_same_id() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        contract = gateway.contract(MEMBER, "care", "kv")
        assert len({contract.propose("inc").transaction_id for _ in range(100)}) == 100


async def test_a_transaction_goes_its_way_step_by_step() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        contract = gateway.contract(MEMBER, "care", "kv")
        assert await contract.evaluate("get", "k", target_organizations=["HospitalA"]) == b"answer"
        transaction = await contract.propose("put").endorse()
        assert transaction.result == b"result"
        assert transaction.channel == "care"
        await transaction.submit()
        status = await transaction.commit_status_request().status()
        assert status == await gateway.commit_status(MEMBER, "care", transaction.transaction_id)
    assert (status.block_number, status.validation_name, status.is_valid) == (7, "VALID", True)
    assert [name for name, _ in peer.calls] == ["Evaluate", "Endorse", "Submit", "CommitStatus", "CommitStatus"]
    assert list(peer.calls[0][1].target_organizations) == ["HospitalA"]
    submit = peer.calls[2][1]
    assert crypto.verify(KEY, submit.prepared_transaction.signature, submit.prepared_transaction.payload)
    asked = peer.calls[3][1]
    assert crypto.verify(KEY, asked.signature, asked.request)


async def test_each_step_can_be_signed_far_away_from_its_bytes_alone() -> None:
    """The online side knows the certificate only; what crosses between the two sides is bytes."""
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        proposal = gateway.contract(MEMBER.identity, "care", "kv").propose("put", endorsing_organizations=["A"])
        kept, signature = proposal.bytes, sign_proposal(proposal.bytes, MEMBER)
        transaction = await gateway.proposal(kept, signature).endorse()
        prepared = transaction.bytes
        await gateway.transaction(prepared, sign_transaction(prepared, MEMBER, proposal=kept)).submit()
        request = transaction.commit_status_request().bytes
        asked = gateway.commit_status_request(request, sign_commit_status_request(request, MEMBER))
        assert (await asked.status()).transaction_id == proposal.transaction_id
    endorse, submit, status = (request for _, request in peer.calls)
    assert list(endorse.endorsing_organizations) == ["A"]
    assert crypto.verify(KEY, endorse.proposed_transaction.signature, endorse.proposed_transaction.proposal_bytes)
    assert crypto.verify(KEY, submit.prepared_transaction.signature, submit.prepared_transaction.payload)
    assert crypto.verify(KEY, status.signature, status.request)


async def test_digests_are_what_a_key_store_has_to_sign() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        proposal = gateway.contract(MEMBER.identity, "care", "kv").propose("put")
        signed = proposal.with_signature(crypto.sign_digest(MEMBER.private_key, proposal.digest))
        transaction = await signed.endorse()
        await transaction.with_signature(crypto.sign_digest(MEMBER.private_key, transaction.digest)).submit()
        request = transaction.commit_status_request()
        await request.with_signature(crypto.sign_digest(MEMBER.private_key, request.digest)).status()
    submit, status = peer.calls[1][1], peer.calls[2][1]
    assert crypto.verify(KEY, submit.prepared_transaction.signature, submit.prepared_transaction.payload)
    assert crypto.verify(KEY, status.signature, status.request)


async def test_a_step_that_nobody_signed_is_not_sent() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        proposal = gateway.contract(MEMBER.identity, "care", "kv").propose("put")
        for step in (proposal.endorse, proposal.evaluate):
            with pytest.raises(NotSigned):
                await step()
        with pytest.raises(NotSigned):
            await gateway.commit_status(MEMBER.identity, "care", "1f")
    assert peer.calls == []


async def test_a_gateway_that_prepares_another_transaction_gets_no_signature() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        contract = gateway.contract(MEMBER, "care", "kv")
        mine, other = contract.propose("put"), contract.propose("put")
        await other.endorse()
        [(_, request)] = peer.calls

        async def swapped(_: object, context: object) -> object:
            return await endorsed(request, context)

        peer.script["Endorse"] = [swapped, swapped]
        with pytest.raises(EndorseError, match="another transaction"):
            await mine.endorse()
        response = await endorsed(request, None)
    prepared = gateway_pb2.PreparedTransaction(envelope=response.prepared_transaction).SerializeToString()
    with pytest.raises(ValueError, match="not the one"):
        sign_transaction(prepared, MEMBER, proposal=mine.bytes)
    assert sign_transaction(prepared, MEMBER, proposal=other.bytes)


async def test_malformed_bytes_are_refused() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        for read in (gateway.proposal, gateway.transaction, gateway.commit_status_request):
            with pytest.raises(ValueError, match="malformed"):
                read(b"\xff\xff")


async def test_answers_larger_than_grpcs_default_arrive() -> None:
    async def large(request: object, context: object) -> object:
        response = await evaluated(request, context)
        response.result.payload = bytes(8 * 1024 * 1024)
        return response

    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        peer.script["Evaluate"] = [large]
        assert len(await gateway.contract(MEMBER, "care", "kv").evaluate("get")) == 8 * 1024 * 1024


@pytest.mark.parametrize(("server_name", "is_trusted"), [("peer0.a.care.example", True), (None, False)])
async def test_a_peer_is_known_by_its_certificate(server_name: str | None, is_trusted: bool) -> None:
    authority, key = CertificateAuthority.create("tlsca", "o"), crypto.new_private_key()
    certificate = authority.issue("p", key.public_key(), purpose=Purpose.TLS, sans=["peer0.a.care.example"])
    server = grpc.aio.server()
    pair = (private_key_to_pem(key), certificate_to_pem(certificate))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    endpoint = Endpoint(f"127.0.0.1:{port}", authority.certificate_pem, server_name)
    try:
        async with Gateway([endpoint]) as gateway:
            if is_trusted:
                await gateway.connect(timeout=5)
            else:
                with pytest.raises(Exception, match="no gateway peer can be reached"):
                    await gateway.connect(timeout=0.5)
    finally:
        await server.stop(0)


async def test_a_gateway_is_used_within_its_context() -> None:
    gateway = Gateway([Endpoint("127.0.0.1:1", None)])
    with pytest.raises(RuntimeError, match="async with"):
        gateway.contract(MEMBER, "care", "kv")
    async with gateway:
        with pytest.raises(RuntimeError, match="once"):
            await gateway.__aenter__()
    with pytest.raises(Exception, match="closed"):
        await gateway.connect()


async def test_a_gateway_needs_an_endpoint() -> None:
    with pytest.raises(ValueError, match="at least one"):
        await Gateway([]).__aenter__()
