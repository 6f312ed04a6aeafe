"""The ledger network of a system: devnet, or official peers and orderers. One interface, `base.LedgerNetwork`."""
