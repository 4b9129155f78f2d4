"""bin/bench: measurements of the CPI on a real server that it starts and deletes."""
