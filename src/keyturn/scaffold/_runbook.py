"""
`docs/credential-rotation-runbook.md`: how each credential is rotated, by hand, at night.

One part a secret, each complete in itself: whoever was woken by it reads that part and
nothing else. Short sentences, and commands that can be copied as they stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keyturn.core.ids import EnvironmentName
from keyturn.manifest import (
    CommandReload,
    ComposeReload,
    Consumer,
    HttpReload,
    KubernetesReload,
    Manifest,
    Secret,
    SecretKind,
    SignalReload,
    SwarmReload,
    SystemdReload,
)
from keyturn.scaffold._facts import (
    Facts,
    facts_of,
    fetched,
    hand_reason,
    overlap,
    undescribed,
)
from keyturn.scaffold._model import Deployment, Family, File, Order, header
from keyturn.scaffold._schedule import span
from keyturn.scaffold._words import code, markdown

__all__ = ["files"]

_OUTAGE = {True: "Yes", False: "No", None: "It depends"}
_PATH = "docs/credential-rotation-runbook.md"
# What a person must know of an exit code at night: `keyturn help exit-codes` has the table.
_EXITS = (
    ("0", "Done, as far as it goes now.", "What it says that it waits for; else nothing."),
    ("1", "It is wrong, or the rotation was taken back.", "Read it; look at the status."),
    ("2", "The command or keyturn.toml is wrong.", "Correct it. Nothing was touched."),
    ("3", "There was nothing to look at.", "Look whether name and environment are right."),
    ("4", "Not allowed, or the key is absent.", "Run it as the right user; give a reason."),
    ("5", "Somebody is at it, or a rotation is open.", "It says which: wait, or `--resume`."),
    ("6", "Nobody knows whether it happened.", "Do what it says; `--resume` finds out."),
    ("7", "No answer, or too early.", "Try again later."),
    ("70", "A fault in Keyturn.", "Report it. `--resume` goes on from where it was."),
    ("130", "You interrupted it.", "`--resume` goes on."),
)  # fmt: skip
# A credential for one run, with the rights of the real one, can be made for these.
_REHEARSED = frozenset(
    {
        SecretKind.POSTGRES_LOGIN,
        SecretKind.REDIS_LOGIN,
        SecretKind.OPENAI_KEY,
        SecretKind.SENDGRID_KEY,
        SecretKind.VAULT_APPROLE,
        SecretKind.AWS_ACCESS_KEY,
        SecretKind.SSH_KEY,
        SecretKind.GENERATED,
    }
)


def files(manifest: Manifest, deployment: Deployment, order: Order) -> list[File]:
    """Return the runbook."""
    if not manifest.secrets:
        return [File(Family.RUNBOOK, _PATH, None)]
    waves = [list(wave) for wave in order]
    names = [name for wave in waves for name in wave]
    # What the environment does not have is written for the first one that has it.
    names += [name for name in manifest.secrets if name not in names]
    lines = [
        f"<!-- {header(deployment, Family.RUNBOOK)} -->",
        "",
        *_first_page(manifest, deployment),
        *_order(manifest, deployment, waves),
        *_exits(),
    ]
    for name in names:
        lines += _part(manifest, deployment, manifest.secrets[name])
    return [File(Family.RUNBOOK, _PATH, "\n".join(lines).rstrip("\n") + "\n")]


def _sh(*commands: str) -> list[str]:
    return ["```sh", *commands, "```", ""]


def _first_page(manifest: Manifest, deployment: Deployment) -> Iterator[str]:
    where, found = deployment.environment, deployment
    protected = manifest.environments[where].protected
    yield f"# Credential rotation runbook of {manifest.project.name}"
    yield ""
    yield f"The commands are for `{where}`. Each part is complete: go to the secret that woke you."
    others = [name for name in manifest.environments if name != where]
    if others:
        listed = ", ".join(code(name) for name in others)
        yield f"For another environment ({listed}), write its name in place of `{where}`."
    yield ""
    yield "## First"
    yield ""
    yield "Go to where the store is, as the user that owns it:"
    yield ""
    yield from _sh(
        f"sudo -u {found.user} -s",
        f"cd {found.folder}",
        f"export KEYTURN_HOME={found.key_home}",
        f"keyturn status -e {where}",
    )
    yield "- Nothing can be half done and forgotten: every step is written down before it is made."
    resume = f"keyturn rotate --resume -e {where}{_reason(manifest, where, '...')}"
    yield f"- If a command dies, or you are not sure: `{resume}`. It is always safe."
    yield "- No command shows a value, and none needs to be given one on its command line."
    if protected:
        yield f"- `{where}` is protected: changes need `--reason`, and ask you once."
    yield "- Never rotate while a deployment runs. Stop one or the other."
    yield ""
    yield "## Whom to call"
    yield ""
    yield "| for | whom |"
    yield "| --- | --- |"
    contacts, owner = manifest.contacts, manifest.project.owner
    yield f"| a rotation that fails | {_whom(manifest, contacts.on_call, contacts.security)} |"
    yield f"| a leak | {_whom(manifest, contacts.security, contacts.on_call)} |"
    users = ", ".join(map(_contact, contacts.users))
    yield f"| users are affected | {users or _whom(manifest, None, contacts.security)} |"
    yield f"| everything else | {markdown(owner) if owner else _whom(manifest, None, None)} |"
    yield ""


def _whom(manifest: Manifest, named: str | None, other: str | None) -> str:
    """Return whom to call: *named*, else *other*, else whoever owns the project."""
    if named is not None:
        return _contact(named)
    if other is not None:
        return f"{_contact(other)} (nobody is named for this)"
    if manifest.project.owner:
        return f"{markdown(manifest.project.owner)} (nobody is named under `[contacts]`)"
    return "whoever leads the project: keyturn.toml names nobody under `[contacts]`"


def _contact(address: str) -> str:
    kind, _, rest = address.partition(":")
    if kind == "mailto":
        return code(rest)
    # What notices are posted to may have a key in its address.
    return f"notices go there by {code(kind)}; the address is in keyturn.toml"


def _order(manifest: Manifest, deployment: Deployment, waves: Order) -> Iterator[str]:
    where = deployment.environment
    reason = _reason(manifest, where, "everything, because ...")
    yield "## Everything at once"
    yield ""
    yield "In this order. What stands on one line goes side by side; one that fails stops only"
    yield "what depends on it. The command leaves out what is marked *by hand*, and names it at"
    yield "the end: do those yourself then, one after the other, by their parts below."
    yield ""
    for number, wave in enumerate(waves, 1):
        yield f"{number}. {', '.join(_place(manifest.secret_in(where, name)) for name in wave)}"
    yield ""
    yield from _sh(
        f"keyturn rotate --all -e {where} --dry-run",
        f"keyturn rotate --all -e {where}{reason}",
        f"keyturn test -e {where}",
    )
    yield "Only the most urgent: add `--priority critical`."
    yield ""


def _place(secret: Secret) -> str:
    by_hand = not secret.spec.rotates or fetched(secret) or undescribed(secret)
    return f"[{secret.name}](#{_anchor(secret.name)}){' *(by hand)*' if by_hand else ''}"


def _exits() -> Iterator[str]:
    yield "## What the exit code says"
    yield ""
    yield "| code | meaning | what to do |"
    yield "| ---: | --- | --- |"
    for exit_code, meaning, advice in _EXITS:
        yield f"| {exit_code} | {meaning} | {advice} |"
    yield ""


def _anchor(name: str) -> str:
    return f"secret-{name}"


def _reason(manifest: Manifest, where: EnvironmentName, text: str) -> str:
    return f" --reason '{text}'" if manifest.environments[where].protected else ""


def _part(manifest: Manifest, deployment: Deployment, declared: Secret) -> Iterator[str]:
    where = deployment.environment
    if not declared.is_in(where) and declared.only:
        where = declared.only[0]
    secret = manifest.secret_in(where, declared.name)
    facts = facts_of(secret)
    yield "---"
    yield ""
    # An anchor of its own: two headings may read the same.
    yield f'<a id="{_anchor(secret.name)}"></a>'
    yield ""
    yield f"## {secret.name}"
    yield ""
    if secret.purpose:
        yield f"{markdown(secret.purpose.rstrip('. '))}."
        yield ""
    yield from _table(manifest, where, secret, facts)
    if where != deployment.environment:
        yield f"**It is not in `{deployment.environment}`: these commands are for `{where}`.**"
        yield ""
    yield from _before(manifest, where, secret, facts)
    yield from _how(manifest, where, secret)
    yield from _verify(manifest, where, secret)
    yield from _back(manifest, where, secret)
    yield from _stuck(manifest, where, secret)
    yield from _leaked(manifest, where, secret, facts)


def _table(
    manifest: Manifest, where: EnvironmentName, secret: Secret, facts: Facts
) -> Iterator[str]:
    reason = hand_reason(secret)
    yield "| | |"
    yield "| --- | --- |"
    yield f"| What it is | {markdown(secret.spec.summary)} ({code(secret.kind)}) |"
    yield f"| Who owns it | {markdown(secret.owner or manifest.project.owner or 'nobody named')} |"
    users = manifest.consumers_of(where, secret.name)
    yield f"| Who uses it | {'; '.join(map(_consumer, users)) or 'no program; Keyturn itself'} |"
    yield f"| What it opens | {_target(secret)} |"
    yield f"| Priority | {secret.priority} |"
    yield f"| Rotated every | {span(secret.max_age)} |"
    yield f"| The old one ends | {_old_ends(secret)} |"
    yield f"| **Outage** | **{_OUTAGE[facts.outage]}.** {markdown(facts.impact)} |"
    who = "the schedule" if reason is None else f"you: {markdown(reason)}"
    yield f"| Who rotates it | {who} |"
    yield f"| The new one | {markdown(facts.new)} |"
    yield f"| The end of the old one | {markdown(facts.end)} |"
    yield ""


def _old_ends(secret: Secret) -> str:
    later = overlap(secret)
    if not secret.spec.rotates or (fetched(secret) and secret.kind is not SecretKind.TWITCH_APP):
        return "when a person ends it" + (
            f"; not before {span(later)} have passed" if later else ""
        )
    return f"{span(later)} later" if later else "at once"


def _consumer(consumer: Consumer) -> str:
    match consumer.reload:
        case SignalReload(signal=signal):
            how = f"gets the signal {signal}"
        case SystemdReload(unit=unit, action=action):
            how = f"{action} of the unit {code(unit)}"
        case ComposeReload(service=service):
            how = f"the compose service {code(service)} is restarted"
        case CommandReload(command=command):
            how = f"{code(command[0])} is run"
        case KubernetesReload(workload=workload, name=name):
            how = f"the {workload} {code(name)} is restarted"
        case SwarmReload(services=services):
            listed = ", ".join(code(name) for name in services)
            how = f"these services of the swarm get the new secret: {listed}"
        case HttpReload():
            how = "is told by HTTP"
        case None:
            how = "**restart it yourself**"
    return f"{code(consumer.name)} ({how})"


def _target(secret: Secret) -> str:
    words = ("host", "port", "database", "address", "role", "user", "url", "plugin")
    said = [f"{word} {code(str(secret.target[word]))}" for word in words if word in secret.target]
    return ", ".join(said) or "-"


def _before(
    manifest: Manifest, where: EnvironmentName, secret: Secret, facts: Facts
) -> Iterator[str]:
    yield f"### {secret.name}: before you begin"
    yield ""
    if facts.outage:
        yield "1. **There is an outage.** Tell the team, and choose a quiet hour."
    yield "1. No deployment and no other incident is under way."
    for text in facts.before:
        yield f"1. {markdown(text)}"
    admin = secret.target.get("admin")
    if isinstance(admin, str):
        yield f"1. [{admin}](#{_anchor(admin)}) works: `keyturn test {admin} -e {where}`"
    for consumer in manifest.consumers_of(where, secret.name):
        if consumer.health is not None:
            yield f"1. `{consumer.name}` is well: {code(consumer.health.url)} answers 200."
    yield "1. All is well now:"
    yield ""
    yield from _sh(f"keyturn test {secret.name} -e {where}")


def _how(manifest: Manifest, where: EnvironmentName, secret: Secret) -> Iterator[str]:
    reason = _reason(manifest, where, "...")
    yield f"### {secret.name}: rotate"
    yield ""
    if not secret.spec.rotates:
        yield "A person changes it where it is used, then tells Keyturn. It asks without showing:"
        yield ""
        yield from _sh(f"keyturn set {secret.name} -e {where}{reason}")
        return
    commands = [f"keyturn rotate {secret.name} -e {where} --dry-run    # shows the plan"]
    if secret.kind in _REHEARSED and not undescribed(secret):
        commands.append(
            f"keyturn rotate {secret.name} -e {where} --rehearse   # tries it; changes nothing"
        )
    commands.append(f"keyturn rotate {secret.name} -e {where}{reason}")
    yield from _sh(*commands)
    if undescribed(secret):
        yield f"This is refused until keyturn.toml has `[secrets.{secret.name}.target]`. Until then"
        yield "make the new one by hand where it is checked, then tell Keyturn:"
        yield ""
        yield from _sh(
            f"keyturn set {secret.name} -e {where}{reason}",
            f"keyturn render -e {where}",
        )
    elif fetched(secret):
        yield from _fetching(secret, f"-e {where}{reason}")
    elif later := overlap(secret):
        yield f"The command ends when old and new both work. The old one ends {span(later)}"
        yield "later, by the hourly tick. To end it earlier:"
        yield ""
        yield from _sh(f"keyturn rotate --resume {secret.name} --now -e {where}{reason}")


def _fetching(secret: Secret, rest: str) -> Iterator[str]:
    yield "It shows what to do and asks for the new value. Type or paste it there; it is not"
    resume = f"keyturn rotate --resume {secret.name} {rest}"
    if secret.kind is SecretKind.TWITCH_APP:
        yield 'shown. **You may stop only before you press "New Secret". Once you have pressed it,'
        yield "the old one is dead: give the new one at once.** If the command died meanwhile, run"
        yield "this and give the secret that you made; if you no longer have it, press again."
        yield ""
        yield from _sh(resume)
        return
    yield "shown. If you cannot get it now, give nothing; the old one goes on working. Days later:"
    yield ""
    yield from _sh(resume)
    if later := overlap(secret):
        yield f"Leave the old one alone for {span(later)}: programs may still use it. Then end it"
        yield "where it was issued. Keyturn cannot do that for you."
        yield ""


def _verify(manifest: Manifest, where: EnvironmentName, secret: Secret) -> Iterator[str]:
    yield f"### {secret.name}: verify"
    yield ""
    yield from _sh(
        f"keyturn test {secret.name} -e {where}",
        f"keyturn history {secret.name} -e {where}",
        "keyturn render --check -e " + where,
    )
    yield "Each must end with exit code 0. The last may end with 3 instead: then no program of"
    yield f"`{where}` is given a file, and that is well too."
    unseen = [
        consumer.name
        for consumer in manifest.consumers_of(where, secret.name)
        if consumer.reload is None
    ]
    if unseen:
        yield f"Nothing reloads {', '.join(map(code, unseen))}: restart it, then look at its log."
    yield ""


def _back(manifest: Manifest, where: EnvironmentName, secret: Secret) -> Iterator[str]:
    reason = _reason(manifest, where, "...")
    yield f"### {secret.name}: roll back"
    yield ""
    if secret.kind is SecretKind.TWITCH_APP:
        yield "**There is no way back:** the old one is dead. Make another new one."
        yield ""
        return
    if secret.spec.rotates:
        yield "Where the new one does not work, or a program is not well on it, Keyturn puts the"
        yield "old one back by itself: there is nothing to do. Only where you find out later:"
        yield ""
    if secret.spec.rotates:
        yield "While its rotation is open and has not begun to end the old one, this turns it back:"
        yield "the old one is in use again, every program gets it, and the new one is withdrawn."
        yield ""
    yield "Else it makes the version before current again, in the store alone. **It helps only"
    yield "while the old one still works.** Where a rotation has ended it, the command refuses:"
    yield "rotate again instead."
    yield ""
    yield from _sh(
        f"keyturn rollback {secret.name} -e {where}{reason}",
        f"keyturn render -e {where}",
        f"keyturn test {secret.name} -e {where}",
    )


def _stuck(manifest: Manifest, where: EnvironmentName, secret: Secret) -> Iterator[str]:
    if not secret.spec.rotates:
        return
    reason = _reason(manifest, where, "...")
    yield f"### {secret.name}: if it is stuck"
    yield ""
    yield "This finds out what happened, and goes on or goes back. Run it as often as you like:"
    yield ""
    yield from _sh(
        f"keyturn status -e {where}",
        f"keyturn rotate --resume {secret.name} -e {where}{reason}",
        "keyturn doctor",
    )
    yield "Only when nothing else helps. It ends the rotation where it is; the target is left to"
    yield "you, and may accept both credentials:"
    yield ""
    yield from _sh(f"keyturn rotate {secret.name} -e {where} --give-up{reason}")


def _leaked(
    manifest: Manifest, where: EnvironmentName, secret: Secret, facts: Facts
) -> Iterator[str]:
    yield f"### {secret.name}: if it leaked"
    yield ""
    for number, (text, *commands) in enumerate(_leak_steps(manifest, where, secret, facts), 1):
        yield f"{number}. {text}"
        if commands:
            yield ""
            yield from _sh(*commands)
    yield ""


def _leak_steps(
    manifest: Manifest, where: EnvironmentName, secret: Secret, facts: Facts
) -> Iterator[Sequence[str]]:
    """Yield what to do, each with its commands: first what stops the harm, then what finds it."""
    contacts = manifest.contacts
    rest = f"-e {where}{_reason(manifest, where, 'leaked') or ' --reason leaked'}"
    yield [
        f"Call: {_whom(manifest, contacts.security, contacts.on_call)}. Do not wait for an answer."
    ]
    yield ["Is the leak still open, and closed in minutes? Close it first: a new one leaks too."]
    yield from _end_now(secret, rest)
    yield [
        "See that the new one works and the old one is refused:",
        f"keyturn test {secret.name} -e {where}",
    ]
    dependents = [
        other.name
        for other in manifest.secrets_in(where)
        if secret.name in (other.target.get("admin"), other.target.get("ca"))
    ]
    if dependents:
        listed = ", ".join(f"[{name}](#{_anchor(name)})" for name in dependents)
        yield [f"Whoever had it could make and change these. Rotate them too: {listed}"]
    yield [
        "See who had it from Keyturn:",
        f"keyturn audit log --object '{where}/{secret.name}' --since 90d",
    ]
    for text in facts.leaked:
        yield [markdown(text)]
    yield ["Find where it leaked, and close that."]


def _end_now(secret: Secret, rest: str) -> Iterator[Sequence[str]]:
    if not secret.spec.rotates or undescribed(secret):
        yield [
            "Make a new one where it is checked, and end the old one there. Then tell Keyturn:",
            f"keyturn set {secret.name} {rest}",
        ]
        return
    yield [
        "Replace it and end the old one now. Do not wait for a quiet hour:",
        f"keyturn rotate {secret.name} --now {rest}",
    ]
    yield [
        "Only if that says that a rotation is open: finish that one first, then do it again:",
        f"keyturn rotate --resume {secret.name} --now {rest}",
        f"keyturn rotate {secret.name} --now {rest}",
    ]
    if fetched(secret) and secret.kind is not SecretKind.TWITCH_APP:
        yield ["End the old one where it was issued, now. Keyturn cannot do that for you."]
