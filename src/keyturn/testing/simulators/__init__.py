"""
Vendors' APIs, played on this machine for tests; each vendor is a module of its own.

They answer as the vendors' documentation says, and never contact them.
"""

from __future__ import annotations

from keyturn.testing.simulators._server import (
    Credential,
    Entry,
    Fault,
    Reply,
    Request,
    Simulator,
    Spread,
)

__all__ = ["Credential", "Entry", "Fault", "Reply", "Request", "Simulator", "Spread"]
