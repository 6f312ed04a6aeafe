"""How fast devnet is, and whether it stays so: `python -m benchmarks.devnet`."""
