"""bin/cleanup: remove unused resources."""
