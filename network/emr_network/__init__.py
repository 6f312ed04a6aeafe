"""Topology, certificates and `emr network`: devnet or official peers and orderers."""
