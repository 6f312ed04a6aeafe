"""Changing a network while it runs, on both ledgers by the same calls: `hlf.admin` against peers and orderers.

Every step may be repeated: what was done before is left alone. What differs between the ledgers, how a process comes
into being, is the caller's.
"""
