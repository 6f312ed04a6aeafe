"""Webhooks: this hospital's own systems are told, by signed requests, what changes between hospitals."""
