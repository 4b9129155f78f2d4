"""The stemcells on the server, and which of them their director has replaced.

A director has one CID for the name and version of a stemcell. `bosh upload-stemcell --fix` of other content overwrites
it, and the director never deletes the stemcell of the old CID.
"""

from __future__ import annotations

from typing import NamedTuple

from bosh_lxd_cpi.lxd.resources import Image


class Stemcell(NamedTuple):
    """A stemcell CID, which is an alias of an image.

    `director` is a digest. `created` is in Unix seconds, or None if the server does not return it. `description` is
    name and version as in the description of an alias, where the Go CPI has a hyphen between them.
    """

    cid: str
    director: str
    created: float | None
    description: str
    image: Image

    def supersedes(self, other: Stemcell, *, any_director: bool) -> bool:
        """Return whether this is a later stemcell with the same name and version, of the same director or of any."""
        return (
            (self.director == other.director or any_director)
            and self.description.replace(" ", "-") == other.description.replace(" ", "-")
            and (self.created or 0.0, self.cid) > (other.created or 0.0, other.cid)
        )
