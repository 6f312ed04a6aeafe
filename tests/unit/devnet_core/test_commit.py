from support.devnet_channel import CHAINCODE, Channel


def value(channel: Channel, key: str) -> bytes | None:
    with channel.a.snapshot() as snapshot:
        found = snapshot.get(CHAINCODE, key)
    return None if found is None else found.value


def test_a_valid_transaction_changes_the_state_of_every_peer(channel: Channel) -> None:
    assert channel.commit(channel.put("k", b"v")) == ["VALID"]
    for ledger in channel.ledgers.values():
        with ledger.snapshot() as snapshot:
            found = snapshot.get(CHAINCODE, "k")
        assert found is not None
        assert (found.value, found.version) == (b"v", (2, 0))
    assert channel.a.block_bytes(2) == channel.ledgers["HospitalB"].block_bytes(2)
