"""The configuration: the job's properties, from a file and a request's context."""
