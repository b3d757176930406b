"""
`keyturn demo`: the Clipper example, its database login rotated under load, for all to see.

It drives the real `keyturn` command in a temporary folder, as a person would, and
knows nothing of the rooms behind it; only the PostgreSQL server comes from
`keyturn.testing`.
"""

from keyturn.demo.script import play
from keyturn.demo.show import Show

__all__ = ["Show", "play"]
