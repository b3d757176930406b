"""Mechanics shared by the rooms that do I/O; no domain words here."""
