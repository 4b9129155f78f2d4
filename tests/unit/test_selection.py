from __future__ import annotations

import pytest

from bosh_lxd_cpi import errors
from bosh_lxd_cpi.admin import inventory
from bosh_lxd_cpi.admin.cleanup import selection
from bosh_lxd_cpi.admin.inventory import Inventory, Resource

OURS, OTHERS = "733ab989ac49", "8b3c04bb2a6c"


def stock(**changes) -> Inventory:
    """An inventory with a superseded stemcell that is changed this way."""
    stemcell = {"kind": inventory.IMAGE, "cid": "img-1", "director": OURS, "created": 0.0, "state": "superseded"}
    return Inventory(resources=[Resource(**{**stemcell, **changes})], directors={OURS: "ours", OTHERS: "others"})


@pytest.mark.parametrize("director", ["", "all", OURS])
def test_selects_a_superseded_stemcell(director):
    assert selection.superseded_stemcell(stock(), "img-1", director).cid == "img-1"


@pytest.mark.parametrize(
    "changes, code",
    [
        ({"cid": "img-2"}, "no_such_stemcell"),
        ({"kind": inventory.DISK}, "no_such_stemcell"),
        ({"used_by": ("vm-1",)}, "stemcell_in_use"),
        ({"state": ""}, "newest_stemcell"),
        ({"state": inventory.NO_ALIAS}, "newest_stemcell"),
        ({"director": OTHERS}, "resource_of_other_director"),
    ],
)
def test_refuses_another_stemcell(changes, code):
    with pytest.raises(errors.CloudError) as raised:
        selection.superseded_stemcell(stock(**changes), "img-1", OURS)
    assert raised.value.code == code
