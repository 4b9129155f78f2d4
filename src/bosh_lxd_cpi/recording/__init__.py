"""Recording the requests of a call, and replaying them without a server."""
