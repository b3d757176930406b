"""What an environment can carry, and what it must not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from keyturn.core.value import SecretValue
from keyturn.deliver import (
    DANGEROUS_NAMES,
    MAX_ENTRY_BYTES,
    check_names,
    check_variables,
    versions_text,
)
from keyturn.errors import DeliveryError

CANARY = b"canary-in-the-environment"


@pytest.mark.parametrize("name", ["", "A=B", "1A", "A-B", "A B", "A\n", "A\0B", "É", "x" * 129])
def test_a_name_that_no_shell_knows_is_refused(name):
    """Names are POSIX names; a control character in one does not reach the terminal."""
    with pytest.raises(DeliveryError, match="cannot name a variable") as caught:
        check_names([name])
    assert caught.value.message.isprintable()
    assert "delivery.environment" == caught.value.code


@pytest.mark.parametrize(
    "name",
    [
        *sorted(DANGEROUS_NAMES),
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "DYLD_INSERT_LIBRARIES",
        "GIT_CONFIG_COUNT",
        "npm_config_script_shell",
        "KEYTURN_VERSIONS",
        "KEYTURN_FAILPOINT",
        "BASH_FUNC_ls",
    ],
)
def test_a_dangerous_name_is_refused(name):
    """A secret named after a variable that changes how programs run is refused by name."""
    with pytest.raises(DeliveryError, match=f"`{name}` would change") as caught:
        check_variables({name: SecretValue(CANARY)})
    assert caught.value.hint
    assert CANARY.decode() not in str(caught.value)


def test_usual_names_pass():
    """Names of a real service, proxies and commits among them, are nothing special."""
    check_names(["DB_PASSWORD", "GIT_SHA", "HTTP_PROXY", "PATHS", "OLD_PATH", "_x", "PORT"])


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (CANARY + b"\0", "NUL byte"),
        (CANARY.ljust(MAX_ENTRY_BYTES - len("TOKEN="), b"x") + b"x", "131066 bytes"),
        (CANARY * 1_000_000, "bytes"),
    ],
)
def test_a_value_that_cannot_be_carried_is_refused_by_name(value, says):
    """The error names the variable and the size, never the value."""
    with pytest.raises(DeliveryError, match=says) as caught:
        check_variables({"TOKEN": SecretValue(value)})
    assert "`TOKEN`" in caught.value.message
    assert CANARY.decode() not in f"{caught.value} {caught.value.hint}"


def test_too_much_together_is_refused():
    """What is inherited counts, and the limit is the caller's to know."""
    variables = {f"V{number}": SecretValue(b"x" * 1000) for number in range(100)}
    check_variables(variables, total_limit_bytes=101_500)
    with pytest.raises(DeliveryError, match="environment would have"):
        check_variables(variables, total_limit_bytes=101_000)


def test_the_largest_value_is_taken_by_the_kernel():
    """The limit is not only ours: one byte more and `execve` refuses."""
    name, room = "TOKEN", MAX_ENTRY_BYTES - len("TOKEN=")
    check_variables({name: SecretValue(b"x" * room)})
    environment = {name.encode(): b"x" * room}
    program = ["/bin/sh", "-c", 'test "${#TOKEN}" = ' + str(room)]
    assert 0 == subprocess.run(program, env=environment).returncode
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(program, env={name.encode(): b"x" * (room + 1)})


def test_versions_are_sorted_and_may_be_none():
    """The text is the same whatever order the secrets came in."""
    assert "" == versions_text({})
    assert "a=2 a-b=1 b=10" == versions_text({"b": 10, "a-b": 1, "a": 2})


def test_the_constants_cost_nothing_to_import():
    """Whoever is in a hurry can use the limits without loading the room."""
    code = (
        "import sys; before = set(sys.modules); import keyturn.deliver.environment;"
        "print(*sorted(set(sys.modules) - before))"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, check=True
    ).stdout.split()
    room = [b"keyturn", b"keyturn.deliver", b"keyturn.deliver.environment"]
    assert [b"__future__", *room] == loaded
