from emr_records.main import main

main()
