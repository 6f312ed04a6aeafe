"""The indexer against the least work that its rows need: `python -m benchmarks.indexer`."""
