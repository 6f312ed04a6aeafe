from emr_indexer.projector.main import main

main()
