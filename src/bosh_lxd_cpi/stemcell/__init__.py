"""File formats of stemcells. Needs no server."""
