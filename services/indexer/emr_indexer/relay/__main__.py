from emr_indexer.relay.main import main

main()
