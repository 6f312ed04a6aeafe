"""What is on the ledger: keys, values, functions, events and error codes."""
