"""The system as containers: what `docker-compose.yaml` runs once before, between and after the long-running ones."""
