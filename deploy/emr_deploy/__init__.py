"""The `emr` command, the supervisor and the story."""
