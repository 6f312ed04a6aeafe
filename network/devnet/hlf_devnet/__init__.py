"""A Fabric-compatible network in one process, for development, demos and tests."""
