"""Loads what every test run needs, whichever folder it is given."""

from __future__ import annotations

pytest_plugins = ["tests._plugins.ci"]
