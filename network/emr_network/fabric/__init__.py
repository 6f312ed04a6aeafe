"""Official peers and orderers, run and administered from Python without Fabric's command-line tools."""
