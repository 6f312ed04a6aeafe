from emr_common.lean import start

start("emr_indexer.relay.main")
