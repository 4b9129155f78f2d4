"""bin/doctor: find what would make a deployment fail."""
