"""The schema's history, run by ``emr_readmodel.migrate``."""
