"""The `emr` command's subjects, one module each."""
