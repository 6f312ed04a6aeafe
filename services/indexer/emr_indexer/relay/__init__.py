"""From the ledger's blocks to the hospital's topics."""
