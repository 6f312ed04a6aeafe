from emr_consent.sharer.main import main

main()
