"""The BOSH side: one JSON request on stdin, one JSON response on stdout."""
