"""A certificate authority for development that speaks fabric-ca's REST interface.

`python -m hlf_devnet.ca CONFIG.yaml` runs it. Enough for register, enroll, reenroll, revoke, gencrl and cainfo, with
fabric-ca's rules and error codes for them (fabric-ca `lib/server*.go`). One process serves the authorities of all
hospitals, each on its own port with its own database. There are no affiliations, no Idemix, no intermediates.
"""
