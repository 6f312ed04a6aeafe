"""The words every part of CareLedger shares: ledger keys, values and codes; clinical notes. No I/O."""
