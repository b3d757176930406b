"""
What is generated from the manifest: examples, scripts, units, schedules, the runbook.

Everything here is text from text: nothing is read, written or run. `plan` says which
files a project ought to have and what is in them; the same manifest gives the same bytes.
"""

from __future__ import annotations

from keyturn.scaffold._model import MARK, Deployment, Family, File, Order, is_ours
from keyturn.scaffold._plan import plan

__all__ = ["MARK", "Deployment", "Family", "File", "Order", "is_ours", "plan"]
