"""What administrators ask of the indexer and takes longer than a request: the API keeps it, a projector does it."""
