from emr_common.lean import start

start("emr_consent.sharer.main")
