"""systemd, cron and Kubernetes: as tight as the manifest allows, and no tighter."""

from __future__ import annotations

import re

import pytest
import yaml

from keyturn.scaffold import Family
from tests.unit.scaffold.conftest import PLAIN

TICK = "systemd/shop-keyturn-tick.service"
REMIND = "systemd/shop-rotation-reminder.service"
SIGNAL = 'signal = "HUP"\npid_file = "run/app.pid"\n'
COMMAND = """
[secrets.partner]
kind = "command"
variable = "PARTNER"
target = { create = ["a"], retire = ["b"], status = ["c"] }
"""
REWRAP = """
[secrets.rows]
kind = "encryption-key"
variable = "ROWS"
target = { rewrap = ["./rewrap"] }
"""


def settings(text):
    """Return each setting of a unit with all that is given to it."""
    found = {}
    for name, value in re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def units(generate):
    """Return a function from changes of the manifest to the units' settings, by path."""

    def made(*changes, **deployment):
        text = PLAIN
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        files = generate(text, families=[Family.SYSTEMD], **deployment)
        return {path: settings(file.text) for path, file in files.items()}

    return made


def test_what_is_run_and_when(units):
    """Monday 09:00 by the environment's clock, made up for; and every hour."""
    found = units()
    assert ["Mon *-*-* 09:00:00 Europe/Vienna"] == found["systemd/shop-rotation-reminder.timer"][
        "OnCalendar"
    ]
    assert ["true"] == found["systemd/shop-rotation-reminder.timer"]["Persistent"]
    hourly = found["systemd/shop-keyturn-tick.timer"]
    assert (["hourly"], ["10min"]) == (hourly["OnCalendar"], hourly["RandomizedDelaySec"])
    end = "--project-dir /opt/shop -e production -q"
    assert [f"/usr/local/bin/keyturn tick {end}"] == found[TICK]["ExecStart"]
    assert [f"/usr/local/bin/keyturn remind {end}"] == found[REMIND]["ExecStart"]
    assert ["KEYTURN_HOME=/var/lib/shop/keyturn"] == found[TICK]["Environment"]


def test_only_what_is_written_is_writable(units):
    """The store, the keys and, for the tick, the folders of rendered files."""
    found = units()
    assert ["/opt/shop/.keyturn /var/lib/shop/keyturn"] == found[REMIND]["ReadWritePaths"]
    assert ["/opt/shop/.keyturn /var/lib/shop/keyturn /opt/shop/run"] == found[TICK][
        "ReadWritePaths"
    ]
    whole = units(('path = "run/app.env"', 'path = "run/app"\nformat = "files"'))
    assert whole[TICK]["ReadWritePaths"][0].endswith(" /opt/shop/run/app")


@pytest.mark.parametrize("unit", [TICK, REMIND])
def test_nothing_is_given_that_is_not_needed(units, unit):
    """No capability, no new rights, no other user's processes, no system calls of root."""
    found = units()[unit]
    assert [""] == found["CapabilityBoundingSet"] == found["AmbientCapabilities"]
    assert ["true"] == found["NoNewPrivileges"] == found["ProtectHome"]
    assert ["true"] == found["MemoryDenyWriteExecute"]
    assert ["strict"] == found["ProtectSystem"]
    assert ["@system-service", "~@privileged @resources"] == found["SystemCallFilter"]
    assert "OnFailure" not in found


def test_another_owner_needs_three_capabilities(units):
    """Without them the file could not be given away; the reminder has no need of them."""
    found = units(('path = "run/app.env"', 'path = "run/app.env"\nowner = "www-data"'))
    wanted = ["CAP_CHOWN CAP_FOWNER CAP_DAC_READ_SEARCH"]
    assert wanted == found[TICK]["CapabilityBoundingSet"] == found[TICK]["AmbientCapabilities"]
    assert "@chown" == found[TICK]["SystemCallFilter"][-1]
    assert [""] == found[REMIND]["CapabilityBoundingSet"]


def test_compose_needs_the_group_of_docker(units):
    """And whatever its programs do with memory."""
    found = units((SIGNAL, 'compose = "app"\n'))
    assert ["docker"] == found[TICK]["SupplementaryGroups"]
    assert "MemoryDenyWriteExecute" not in found[TICK]
    assert "SupplementaryGroups" not in found[REMIND]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (SIGNAL, 'command = ["./reload"]\n'),
        ("[secrets.search]", COMMAND + "[secrets.search]"),
        ("[secrets.search]", REWRAP + "[secrets.search]"),
    ],
)
def test_programs_of_the_project_may_make_code(units, old, new):
    """What they are written in is not known."""
    assert "MemoryDenyWriteExecute" not in units((old, new))[TICK]


@pytest.mark.parametrize("reload", ['systemd = "app.service"\n', 'http = "http://127.0.0.1/r"\n'])
def test_asking_systemd_or_by_http_loosens_nothing(units, reload):
    """Sockets are all that it takes."""
    found, plain = units((SIGNAL, reload))[TICK], units()[TICK]
    assert plain == found


@pytest.mark.parametrize(
    "change",
    [
        {"folder": "/home/shop/app"},
        {"key_home": "/run/user/1000/keys"},
        {"program": "/home/shop/.local/bin/keyturn"},
    ],
)
def test_what_lies_in_a_home_folder_can_be_reached(units, change):
    """Homes are then read-only instead of hidden."""
    assert ["read-only"] == units(**change)[TICK]["ProtectHome"]


def test_a_unit_for_failures(units):
    """Where one was asked for."""
    assert ["tell@%%n.service"] == units(on_failure="tell@%n.service")[TICK]["OnFailure"]


def test_cron(generate):
    """Two lines for the user, with the keys' home, and mail to whoever is on call."""
    text = generate(families=[Family.CRON])["deploy/keyturn.cron"].text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert "MAILTO=night@example.com" in lines
    assert "KEYTURN_HOME=/var/lib/shop/keyturn" in lines
    run = "shop /usr/local/bin/keyturn {} --project-dir /opt/shop -e production -q"
    assert f"0 9 * * 1 {run.format('remind')}" == lines[-2]
    minute, rest = lines[-1].split(" ", 1)
    assert 0 <= int(minute) < 60
    assert f"* * * * {run.format('tick')}" == rest


@pytest.mark.parametrize("address", ["mailto:a b@example.com", "slack://x/y", "mailto:a@b;c"])
def test_cron_mails_to_addresses_only(generate, address):
    """What is not plainly one is left out."""
    text = PLAIN.replace("mailto:night@example.com", address.replace(" ", "%0A"))
    found = generate(text, families=[Family.CRON])["deploy/keyturn.cron"].text
    assert "\nMAILTO=" not in found


def test_kubernetes(generate):
    """Two jobs that never run side by side, as nobody in particular, on a read-only system."""
    text = generate(families=[Family.KUBERNETES])["deploy/keyturn-cronjob.yaml"].text
    jobs = list(yaml.safe_load_all(text))
    assert ["shop-keyturn-remind", "shop-keyturn-tick"] == [job["metadata"]["name"] for job in jobs]
    for job in jobs:
        spec = job["spec"]
        assert ("Forbid", "Europe/Vienna") == (spec["concurrencyPolicy"], spec["timeZone"])
        pod = spec["jobTemplate"]["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod["containers"], *pod["initContainers"]):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert ["ALL"] == context["capabilities"]["drop"]
            assert container["resources"]["limits"] == {"memory": "256Mi"}
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounted = {
            mount["name"]
            for container in (*pod["containers"], *pod["initContainers"])
            for mount in container["volumeMounts"]
        }
        assert volumes == mounted
        words = pod["containers"][0]["command"] + pod["containers"][0]["args"]
        verb = job["metadata"]["name"].rpartition("-")[2]
        end = ["--project-dir", "/keyturn/project", "-e", "production", "-q"]
        assert ["keyturn", verb, *end] == words
    assert "# app: reached by a file, signal, unit or program" in text


def test_names_are_short_enough_for_kubernetes(generate):
    """A CronJob's has at most 52 characters, whatever the project's is."""
    name = "a" * 35 + "-" + "b" * 27
    text = generate(
        PLAIN.replace('name = "shop"', f'name = "{name}"'), families=[Family.KUBERNETES]
    )["deploy/keyturn-cronjob.yaml"].text
    names = [job["metadata"]["name"] for job in yaml.safe_load_all(text)]
    assert [f"{'a' * 35}-keyturn-remind", f"{'a' * 35}-keyturn-tick"] == names
    assert max(map(len, names)) <= 52
