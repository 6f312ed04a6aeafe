"""Relay (ledger to Kafka), projector (Kafka to Postgres) and the indexer's API."""
