"""What a clinical note is, byte for byte: canonical JSON, notes from FHIR bundles, sealed forms."""
