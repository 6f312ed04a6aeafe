"""asyncio Hyperledger Fabric for Python: gateway client, deliver, blocks, identities, CA client, chaincode shim."""
