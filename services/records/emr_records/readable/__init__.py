"""A patient's whole EMR as a PDF that a person can read: what each note says, its proof on the ledger, who read it."""
