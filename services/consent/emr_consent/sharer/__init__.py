"""The sharer: a process of its own beside the consent service, run as ``python -m emr_consent.sharer``."""
