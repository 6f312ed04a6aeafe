from emr_consent.main import main

main()
