"""Every store passes the one contract."""

from __future__ import annotations

import threading

import pytest

from keyturn.stores import MemoryStore
from keyturn.testing import FakeClock, StoreContract
from tests.unit.stores.workshop import Workshop


@pytest.mark.store("embedded")
class TestEmbedded(StoreContract):
    """The embedded store; each thread has a connection of its own."""

    @pytest.fixture
    def workshop(self, tmp_path):
        made = Workshop(tmp_path)
        yield made
        made.close()

    @pytest.fixture
    def store(self, workshop):
        return workshop.create()

    @pytest.fixture
    def reopen(self, workshop, store):
        def open_another():
            handle = workshop.open()
            if threading.current_thread() is not threading.main_thread():
                # Only its own thread may close it, which the end of the thread does.
                workshop.open_stores.remove(handle)
            return handle

        return open_another


@pytest.mark.store("memory")
class TestMemory(StoreContract):
    """The memory store; a handle is the store itself."""

    @pytest.fixture
    def store(self):
        return MemoryStore(clock=FakeClock())

    @pytest.fixture
    def reopen(self, store):
        return lambda: store
