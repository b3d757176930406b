"""
What tests of Keyturn and of its adapters need; shipped, and imported by nothing in `keyturn`.

A store of your own proves itself by subclassing `StoreContract`.
"""

from keyturn.testing.clock import FakeClock
from keyturn.testing.entropy import SeededEntropy
from keyturn.testing.store_contract import StoreContract

__all__ = ["FakeClock", "SeededEntropy", "StoreContract"]
