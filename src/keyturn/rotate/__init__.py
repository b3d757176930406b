"""
Rotation: one saga for every kind, journalled so that a death at any line is settled.

`saga` is pure and says what follows what. `journal` remembers. `Runner` joins the
two with a store, a kind's steps and the delivery.
"""

from keyturn.rotate.journal import Event, Journal, Rotation, State
from keyturn.rotate.ports import DeliveryPort, Listener, Progress, Recorder
from keyturn.rotate.rehearsal import Rehearsed, rehearsal_token, rehearse
from keyturn.rotate.runner import Report, Runner
from keyturn.rotate.saga import End, Plan, Step, steps_ahead, turned_step

__all__ = [
    "DeliveryPort",
    "End",
    "Event",
    "Journal",
    "Listener",
    "Plan",
    "Progress",
    "Recorder",
    "Rehearsed",
    "Report",
    "Rotation",
    "Runner",
    "State",
    "Step",
    "rehearsal_token",
    "rehearse",
    "steps_ahead",
    "turned_step",
]
