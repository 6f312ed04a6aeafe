from emr_registration.main import main

main()
