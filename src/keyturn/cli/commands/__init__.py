"""
One verb a file. Each is imported when it is called or its help is asked for.

`VERBS` says where each one lives, under which heading `keyturn --help` shows it,
and its one line of help, so that the list costs no import.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VERBS", "Verb"]


class Verb(NamedTuple):
    """One command: its module under this package, its heading, its line of help."""

    module: str
    group: str
    help: str


VERBS: dict[str, Verb] = {
    "init": Verb("init", "Declare", "Draft keyturn.toml from a .env.example and make the store."),
    "import": Verb("import_", "Declare", "Take the values of a real .env into the store."),
    "scaffold": Verb("scaffold", "Declare", "Write scripts, units and runbook; check them."),
    "generate": Verb("generate", "Make and keep", "Generate values, by default those missing."),
    "random": Verb("random", "Make and keep", "Print one random value; store nothing."),
    "set": Verb("set", "Make and keep", "Store a value given by prompt, stdin or file."),
    "get": Verb("get", "Make and keep", "Print a value."),
    "list": Verb("list", "Make and keep", "List secrets, without values."),
    "history": Verb("history", "Make and keep", "List the versions of a secret."),
    "rollback": Verb("rollback", "Make and keep", "Make an earlier version current again."),
    "drift": Verb("drift", "Make and keep", "Show what others changed in the team's store."),
    "diff": Verb("diff", "Make and keep", "Compare two environments or stores, by digest."),
    "sync": Verb("sync", "Make and keep", "Carry secrets to another store, with their history."),
    "run": Verb("run", "Deliver", "Start a program with its secrets in its environment."),
    "render": Verb("render", "Deliver", "Write the files that consumers read."),
    "rotate": Verb("rotate", "Rotate and prove", "Replace a credential, losing nothing."),
    "tick": Verb("tick", "Rotate and prove", "Do all that is due; for timers and cron."),
    "status": Verb("status", "Rotate and prove", "Show ages, due dates and rotations."),
    "remind": Verb("remind", "Rotate and prove", "Tell the contacts what is due or stuck."),
    "test": Verb("test", "Rotate and prove", "Prove that every secret is there and works."),
    "audit": Verb("audit", "Rotate and prove", "Show, verify or export the audit log."),
    "backup": Verb("backup", "Look after", "Seal every store into one file, for recipients."),
    "restore": Verb("restore", "Look after", "List, rehearse or bring back a backup."),
    "doctor": Verb("doctor", "Look after", "Check the store, its keys and its files."),
    "demo": Verb("demo", "Look after", "Watch a database login rotate under load."),
    "completion": Verb("completion", "Look after", "Print the completion script of a shell."),
    "help": Verb("help", "Look after", "Explain exit codes, environment, formats or kinds."),
}
