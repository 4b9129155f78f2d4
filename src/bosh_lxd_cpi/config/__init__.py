"""The job's properties."""
