from __future__ import annotations

import queue

import pytest

from bosh_lxd_cpi.lxd.connection_slot import ConnectionSlot


def test_returns_each_connection_once():
    slot = ConnectionSlot(1)
    slot.put("connection", block=False)
    assert slot.get(block=False) == "connection"
    with pytest.raises(queue.Empty):
        slot.get(block=False, timeout=None)


def test_a_pool_fills_itself_with_none():
    slot = ConnectionSlot(1)
    slot.put(None)
    with pytest.raises(queue.Empty):
        slot.get()
