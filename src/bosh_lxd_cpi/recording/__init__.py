"""Recording and replaying of the requests of a call."""
