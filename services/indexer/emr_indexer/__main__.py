from emr_indexer.main import main

main()
