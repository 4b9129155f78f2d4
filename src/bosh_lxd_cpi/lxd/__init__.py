"""A client for the REST API of LXD and Incus. Knows nothing of BOSH."""
