"""What is generated: which files, from what, and always the same."""

from __future__ import annotations

import re

import pytest

from keyturn.cli.commands import VERBS
from keyturn.manifest import KINDS, Strategy, is_placeholder, load, parse_env
from keyturn.scaffold import MARK, Family, is_ours
from keyturn.scaffold._facts import facts_of, hand_reason, overlap
from tests.unit.scaffold.conftest import PLAIN

EMPTY = '[project]\nname = "shop"\n[environments.production]\n'


def secret_of(kind, more=""):
    """Return the only secret of a manifest."""
    text = f'{EMPTY}[secrets.it]\nkind = "{kind}"\n{more}'
    return load(text.encode(), file="keyturn.toml").secret_in("production", "it")


def test_the_same_manifest_gives_the_same_bytes(generate):
    """Nothing depends on time, order of sets or machine."""
    assert generate() == generate()


def test_each_file_begins_by_saying_what_it_is(generate):
    """The mark stands where `is_ours` looks, with the command that checks it."""
    for file in generate().values():
        assert is_ours(file.text), file.path
        assert MARK in "".join(file.text.splitlines()[:2])
        assert "keyturn scaffold --check" in "".join(file.text.splitlines()[:2])


def test_a_mark_further_down_is_somebody_elses():
    """A page that quotes one of ours is not ours."""
    assert not is_ours(f"a\nb\nc\n# {MARK}\n")
    assert not is_ours("")


def test_options_stand_in_what_depends_on_them(generate):
    """Whoever checks a file reads in it with which options."""
    files = generate(options=" --at /srv/shop")
    assert "--check --at /srv/shop" in files["scripts/rotate-db-password.sh"].text
    assert "--at" not in files[".env.example"].text


def test_what_the_manifest_has_no_cause_for_goes_away(generate):
    """Without secrets there are no scripts, no schedule and no runbook."""
    files = generate(EMPTY)
    gone = {path for path, file in files.items() if file.text is None}
    assert {
        ".env.example",
        "scripts/rotate-db-password.sh",
        "scripts/rotate-jwt-keys.sh",
        "scripts/rotate-api-keys.sh",
        "scripts/test-secrets-retrieval.sh",
        "docs/rotation-schedule.md",
        "docs/credential-rotation-runbook.md",
    } == gone


def test_one_family_alone(generate):
    """Only what was asked for."""
    assert ["deploy/keyturn.cron"] == list(generate(families=[Family.CRON]))


def test_scripts_can_be_run_and_the_rest_cannot(generate):
    """Modes are part of what is generated."""
    for path, file in generate().items():
        assert (0o755 if path.startswith("scripts/") else 0o644) == file.mode


def test_services_have_their_own_and_their_usual_names(generate):
    """`--service stripe` works though the secret is called otherwise."""
    text = generate()["scripts/rotate-api-keys.sh"].text
    assert "  stripe) set -- stripe-live ;;\n" in text
    assert "  stripe-live) set -- stripe-live ;;\n" in text
    assert "  search) set -- search ;;\n" in text
    # It administers another one, and no program is given it.
    assert "db-admin)" not in text


def test_a_usual_name_that_two_would_have_is_nobodys(generate):
    """Which of two is meant cannot be guessed."""
    more = '[secrets.stripe-test]\nkind = "stripe-key"\nvariable = "STRIPE_TEST"\n'
    text = generate(PLAIN + more)["scripts/rotate-api-keys.sh"].text
    assert "  stripe-test) " in text
    assert "  stripe) " not in text


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_explained(kind):
    """No kind is without its words for the night."""
    more = "target = { plugin = 'x' }\n" if kind == "external" else ""
    found = facts_of(secret_of(kind, more))
    assert all(text.endswith(".") for text in (found.impact, found.new, found.end))
    assert all(text.endswith((".", ":")) for text in (*found.before, *found.leaked))


@pytest.mark.parametrize(
    ("kind", "more", "outage", "days"),
    [
        ("postgres-login", "", False, 1),
        ("postgres-login", 'strategy = "in-place"', True, 0),
        ("redis-login", 'strategy = "in-place"', True, 0),
        ("jwt-signing-key", 'fields = { private_key = "A", public_key = "B" }', True, 1),
        (
            "jwt-signing-key",
            'fields = { private_key = "A", public_key = "B", jwks = "C" }',
            False,
            1,
        ),
        ("session-secret", "", True, 1),
        ("session-secret", 'strategy = "list"', False, 1),
        ("twitch-app", "", True, 0),
        ("command", "", False, 1),
        ("guided", "", None, 1),
    ],
)
def test_outages_are_told(kind, more, outage, days):
    """Strategy and fields decide whether something is refused while it is rotated."""
    found = secret_of(kind, f'grace = "1d"\n{more}\n')
    assert (outage, days) == (facts_of(found).outage, overlap(found).days)


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("generated", "", None),
        ("generated", "automatic = false", "automatic = false"),
        ("guided", "", "fetches"),
        ("twitch-app", "", "fetches"),
        ("stripe-key", "", "fetches"),
        ("human-password", "", "chooses"),
        ("redis-login", "", "does not say what it opens: host"),
    ],
)
def test_who_rotates_it(kind, more, words):
    """The schedule does, or the page says why it does not."""
    reason = hand_reason(secret_of(kind, more))
    assert (words is None) == (reason is None)
    assert words is None or words in reason


def test_the_schedule_has_one_row_a_secret(generate):
    """In the order of rotation, with what differs elsewhere below."""
    text = generate()["docs/rotation-schedule.md"].text
    rows = re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)
    assert ["admin", "db-admin", "db", "jwt", "stripe-live", "search"] == rows
    assert "In `development`, `db` is rotated every 90d, and the old one works on for 0s." in text
    assert "fri 16:00..mon 08:00" in text
    assert "| `./scripts/rotate-db-password.sh` |" in text


def test_the_runbook_has_one_part_a_secret(generate):
    """Each with all that is needed, and no step left out."""
    text = generate()["docs/credential-rotation-runbook.md"].text
    for name in ("admin", "db-admin", "db", "jwt", "stripe-live", "search"):
        assert 1 == text.count(f"\n## {name}\n")
        for part in (
            "before you begin",
            "rotate",
            "verify",
            "roll back",
            "if it is stuck",
            "if it leaked",
        ):
            assert 1 == text.count(f"\n### {name}: {part}\n"), (name, part)
    assert "| a rotation that fails | `night@example.com` |" in text
    assert "`app` is well: `http://127.0.0.1:8080/health` answers 200." in text
    assert "1. [db-admin](#secret-db-admin) works" in text


def test_a_leak_reaches_what_it_administers(generate):
    """Only that: what merely comes after it is none of the thief's."""
    more = '[secrets.after]\nkind = "generated"\nvariable = "AFTER"\ndepends_on = ["db"]\n'
    text = generate(PLAIN + more)["docs/credential-rotation-runbook.md"].text
    assert 1 == text.count("Rotate them too:")
    assert "Rotate them too: [db](#secret-db)\n" in text


RUNBOOK = "docs/credential-rotation-runbook.md"


def part_of(text, name, part):
    """Return what the runbook says under one heading of a secret."""
    return text.partition(f"\n### {name}: {part}\n")[2].partition("\n### ")[0]


def test_what_is_done_by_hand_is_marked_in_the_waves(generate):
    """What `rotate --all` leaves out: fetched by a person, or not described well enough."""
    more = '[secrets.redis]\nkind = "redis-login"\nvariable = "REDIS"\n'
    text = generate(PLAIN + more)[RUNBOOK].text
    waves = text.partition("## Everything at once")[2].partition("```")[0]
    marked = set(re.findall(r"\[([a-z-]+)\]\([^)]+\) \*\(by hand\)\*", waves))
    assert {"admin", "db-admin", "stripe-live", "redis"} == marked
    assert "[db](#secret-db)," in waves or "[db](#secret-db)\n" in waves


@pytest.mark.parametrize(
    ("contacts", "failing", "leak"),
    [
        (
            'security = "mailto:sec@example.com"\n',
            "`sec@example.com` (nobody is named for this)",
            "`sec@example.com`",
        ),
        ("", "Team Core (nobody is named", "Team Core (nobody is named"),
    ],
)
def test_somebody_can_be_called_where_nobody_is_named(contacts, failing, leak, generate):
    """At night nobody adds a contact to the manifest."""
    head, _, tail = PLAIN.partition("[contacts]\n")
    text = f"{head}[contacts]\n{contacts}\n[{tail.partition(chr(10) + '[')[2]}"
    text = re.sub(r"(?m)^owner = .*\n", "", text, count=1)
    text = text.replace("[project]\n", '[project]\nowner = "Team Core"\n')
    page = generate(text)[RUNBOOK].text
    assert f"| a rotation that fails | {failing}" in page
    assert f"| a leak | {leak}" in page
    assert f"1. Call: {leak}" in part_of(page, "db", "if it leaked")


def test_of_twitch_nobody_is_told_to_stop_half_way(generate):
    """Once the new secret is made the old one is dead."""
    more = (
        '[secrets.twitch]\nkind = "twitch-app"\n'
        'fields = { client_id = "T_ID", client_secret = "T_SECRET" }\n'
    )
    page = generate(PLAIN + more)[RUNBOOK].text
    how = part_of(page, "twitch", "rotate")
    assert "stop only before you press" in how
    assert "days later" not in how.lower()
    assert "Days later" in part_of(page, "admin", "rotate")
    assert "hourly tick" not in part_of(page, "admin", "rotate")


def test_a_leak_is_stopped_before_it_is_looked_into(generate):
    """Numbered, each number once; the old one ends before anybody reads a log."""
    page = generate()[RUNBOOK].text
    for name, command in (("db", "rotate db --now"), ("admin", "rotate admin --now")):
        part = part_of(page, name, "if it leaked")
        steps = re.findall(r"^(\d+)\. ", part, re.MULTILINE)
        assert [str(number) for number in range(1, len(steps) + 1)] == steps
        assert part.index(command) < part.index("keyturn test") < part.index("keyturn audit log")
    assert "End the old one where it was issued" in part_of(page, "admin", "if it leaked")


def test_the_header_names_the_family_where_options_were_given(generate):
    """Other families may have been written with other options."""
    assert "Check it: keyturn scaffold --check -->" in generate()[RUNBOOK].text
    found = generate(options=" --user shop")
    assert "keyturn scaffold runbook --check --user shop" in found[RUNBOOK].text
    assert all(
        f"keyturn scaffold {file.family} --check --user shop" in file.text
        for file in found.values()
        if file.text and not file.shared
    )


def test_the_runbook_names_commands_that_exist(generate):
    """At night nobody wants to look up what a verb is called now."""
    text = generate()["docs/credential-rotation-runbook.md"].text
    named = set(re.findall(r"(?:`|^)keyturn ([a-z]+)\b", text, re.MULTILINE))
    assert {"rotate", "test", "status", "rollback", "audit", "doctor"} <= named
    assert set() == named - VERBS.keys()
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert set() == links - set(re.findall(r'<a id="([^"]+)">', text))


def test_a_secret_of_another_environment_has_its_part(generate):
    """It says for which environment its commands are."""
    more = '[secrets.probe]\nkind = "generated"\nvariable = "PROBE"\nonly = ["development"]\n'
    text = generate(PLAIN + more)["docs/credential-rotation-runbook.md"].text
    assert "**It is not in `production`: these commands are for `development`.**" in text
    assert "keyturn rotate probe -e development\n" in text
    schedule = generate(PLAIN + more)["docs/rotation-schedule.md"].text
    assert "- `probe` is only in `development`." in schedule


def test_an_unprotected_environment_needs_no_reason(generate):
    """Commands are as short as they can be."""
    text = generate(environment="development")["docs/credential-rotation-runbook.md"].text
    assert "keyturn rotate db -e development\n" in text
    assert "is protected" not in text


def test_addresses_that_may_hold_a_key_are_not_copied(generate):
    """A page goes further than the manifest."""
    text = PLAIN.replace("mailto:night@example.com", "slack://token-abc/def")
    page = generate(text)["docs/credential-rotation-runbook.md"].text
    assert "token-abc" not in page
    assert "notices go there by `slack`" in page


def test_a_fresh_example_holds_every_variable_and_no_value(generate):
    """Optional ones are commented out; whatever a secret's variable holds is a placeholder."""
    text = generate(families=[Family.ENV_EXAMPLE])[".env.example"].text
    entries = {entry.name: entry for entry in parse_env(text.encode(), file="x").entries}
    assert {
        "PORT", "LEVEL", "DB_USER", "DB_PASSWORD", "JWT_KEY", "JWT_PUBLIC", "STRIPE_KEY",
        "SEARCH_USER", "SEARCH_PASSWORD",
    } == set(entries)  # fmt: skip
    assert ["STRIPE_KEY"] == [name for name, entry in entries.items() if entry.commented_out]
    assert "debug" == entries["LEVEL"].value.reveal_text()
    assert "o'shop" == entries["SEARCH_USER"].value.reveal_text()
    for name in ("DB_USER", "DB_PASSWORD", "JWT_KEY", "STRIPE_KEY", "SEARCH_PASSWORD"):
        assert is_placeholder(entries[name].value.reveal_text()), name
    assert "# The shop's database login\nDB_USER=" in text


def test_a_handwritten_example_with_all_of_them_stays_as_it_is(generate):
    """To the byte, whatever it looks like and whatever else is in it."""
    fresh = generate(families=[Family.ENV_EXAMPLE])[".env.example"].text
    own = "".join(f"{line}\n" for line in fresh.splitlines() if "=" in line)[:-1] + "\r\nMORE=1"
    assert own == generate(families=[Family.ENV_EXAMPLE], example=own)[".env.example"].text


def test_what_a_handwritten_example_lacks_is_added_behind_it(generate):
    """Again and again the same; text behind the generated part is kept too."""
    own = "# ours\nPORT=1\n"

    def again(text):
        return generate(families=[Family.ENV_EXAMPLE], example=text)[".env.example"].text

    text = again(own)
    assert text.startswith("# ours\nPORT=1\n\n# >>> ")
    assert 1 == text.count("PORT=")
    assert text == again(text)
    longer = again(text + "\n# behind\nLEVEL=x\n")
    assert longer.endswith("# <<< end of what keyturn generates\n\n# behind\nLEVEL=x\n")
    assert 1 == longer.count("LEVEL=")
    assert longer == again(longer)


def test_a_part_without_cause_is_taken_out_again(generate):
    """When people have written all of it themselves."""
    text = generate(families=[Family.ENV_EXAMPLE], example="A=1\n")[".env.example"].text
    own = "".join(f"{line}\n" for line in text.splitlines() if "=" in line)
    found = generate(families=[Family.ENV_EXAMPLE], example=own + text)[".env.example"].text
    assert "# >>>" not in found
    assert found.startswith("A=1\n")


def test_bytes_that_are_no_text_are_kept(generate):
    """A comment in another encoding is not ours to change."""
    own = "# caf\udce9\nPORT=1\n"
    assert generate(example=own)[".env.example"].text.startswith(own)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("plain-1.0", "IT=plain-1.0\n"),
        ("two words", "IT='two words'\n"),
        ("it's", 'IT="it\'s"\n'),
        ("$HOME", "IT='$HOME'\n"),
        ("it's $HOME", "IT=\n"),
        ("two\\nlines", "IT=\n"),
    ],
)
def test_settings_are_written_so_that_all_readers_agree(generate, setting, line):
    """What no form carries is left out, and said."""
    text = f'{EMPTY}[config]\nIT = "{setting}"\n'
    example = generate(text, families=[Family.ENV_EXAMPLE])[".env.example"].text
    assert line in example
    assert (line == "IT=\n") == ("does not fit on a line" in example)


def test_every_strategy_is_known():
    """A new one must be thought about in `facts_of` and `overlap`."""
    known = {"two-logins", "two-passwords", "in-place", "single", "list", "overlap"}
    assert known | {"authorized-keys", "certificate"} == {str(each) for each in Strategy}


def test_a_part_that_lost_its_end_is_peoples(generate):
    """Nothing of theirs behind it is taken away."""
    text = generate(families=[Family.ENV_EXAMPLE])[".env.example"].text
    torn = text.replace("# <<< end of what keyturn generates\n", "MINE=1\n")
    assert torn == generate(families=[Family.ENV_EXAMPLE], example=torn)[".env.example"].text
