"""The smart contract: who may do what with an EMR and its sharings."""
