"""The same account with the preview API switched on: keys are made and expired by calls."""

from __future__ import annotations

from tests.worlds.stripe_key import StripeKeyWorld


class StripeKeyPreviewWorld(StripeKeyWorld):
    """One account whose key manages itself."""

    preview = True


def open_world():
    return StripeKeyPreviewWorld()
