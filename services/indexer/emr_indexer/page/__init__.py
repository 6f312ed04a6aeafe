"""The published numbers for people who would rather look than query."""
