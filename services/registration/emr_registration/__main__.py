from emr_common.lean import start

start("emr_registration.main")
