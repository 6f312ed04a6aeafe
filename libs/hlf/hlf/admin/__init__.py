"""Administration of Fabric networks: channel configuration, its changes, orderer participation, chaincode lifecycle.

Everything that `configtxgen`, `configtxlator`, `osnadmin` and `peer lifecycle` do, without them. Signatures are
separate from what is signed, so that organizations that trust nobody with their keys each sign on their own machine.
"""
