"""Programs of a team's own that change passwords of the Acme service."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.worlds.acme import USER, AcmeWorld
from tests.worlds.base import Setup

TOOL = Path(__file__).with_name("acme_tool.py")


class CommandWorld(AcmeWorld):
    """The service, and one program that does every step."""

    def __init__(self):
        super().__init__()
        self.setup = Setup(
            kind="command",
            fields=("username", "password"),
            target={
                step: [sys.executable, str(TOOL), step, self.service.url, USER]
                for step in ("create", "retire", "withdraw", "status")
            },
            first=self.service.first,
            admin=self.service.admin,
        )


def open_world():
    return CommandWorld()
