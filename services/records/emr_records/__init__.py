"""Reading EMRs, adding notes, imports, downloads, shared snapshots."""
