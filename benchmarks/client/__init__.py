"""hlf against the official Node client: `python -m benchmarks.client`."""
