"""File formats of stemcells. No module here uses the server."""
