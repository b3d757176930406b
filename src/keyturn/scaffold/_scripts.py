"""
`scripts/`: commands under the names that people know, for whoever does not know Keyturn.

Each is plain `sh`, decides nothing, holds nothing, and ends with Keyturn's exit code.
Only names are written into them, which by the manifest's rules are letters, digits and `-`.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyturn.core.ids import SecretName
from keyturn.manifest import Manifest, Secret, SecretKind
from keyturn.scaffold._model import Deployment, Family, File, header

__all__ = ["files", "script_of", "services"]

_DATABASE = "scripts/rotate-db-password.sh"
_TOKENS = "scripts/rotate-jwt-keys.sh"
_API = "scripts/rotate-api-keys.sh"
_TEST = "scripts/test-secrets-retrieval.sh"

# What people call these, where there is only one of the kind.
_SERVICE_NAMES = {
    SecretKind.STRIPE_KEY: "stripe",
    SecretKind.STRIPE_WEBHOOK_SECRET: "stripe-webhook",
    SecretKind.TWITCH_APP: "twitch",
    SecretKind.OPENAI_KEY: "openai",
    SecretKind.SENDGRID_KEY: "sendgrid",
    SecretKind.AWS_ACCESS_KEY: "aws",
}
# They count as a service's where a program is given them.
_PERHAPS_SERVICES = frozenset(
    {SecretKind.GUIDED, SecretKind.EXTERNAL, SecretKind.COMMAND, SecretKind.GENERATED}
)

_OPTIONS = """\
  -e, --environment NAME  where; default: $KEYTURN_ENVIRONMENT, or @environment@
      --reason TEXT       why, for the audit log; protected environments ask for it
      --dry-run           show the plan; touch nothing
      --rehearse          try every step on a throw-away credential
      --resume            go on with what was interrupted
      --now               do not wait: the old credential ends at once
      --yes               do not ask for confirmation
  -h, --help              show this
"""

_HEAD = """\
#!/bin/sh
# @header@
set -eu

usage() {
  cat <<'USAGE'
@usage@
Exit codes are keyturn's own: 0 done, or it says what it waits for; 1 something is wrong;
2 wrong use, nothing was touched; 4 not allowed; 5 somebody is at it, or a rotation is open
already; 6 or 7 run it again. "keyturn help exit-codes" has them all.
USAGE
}

fail() {
  printf '%s: %s\\n' "${0##*/}" "$1" >&2
  exit "$2"
}

# The argument of an option: the next word, which is no option itself.
need() {
  [ "$#" -ge 2 ] || fail "$1 needs a value" 2
  case $2 in
    '' | -*) fail "$1 needs a value, not '$2'" 2 ;;
  esac
}

self=$0
if [ -L "$self" ]; then
  self=$(readlink -f -- "$self") || fail "cannot follow the link $0" 2
fi
project=$(CDPATH='' cd -P -- "$(dirname -- "$self")/.." && pwd) || fail 'cannot find my folder' 2
[ -f "$project/keyturn.toml" ] || fail "no keyturn.toml in $project" 2

environment=${KEYTURN_ENVIRONMENT:-@environment@}
"""

_FIND = """\
if found=$(command -v keyturn); then
  keyturn=$found
elif [ -x '@program@' ]; then
  keyturn='@program@'
elif [ -x "$project/.venv/bin/keyturn" ]; then
  keyturn=$project/.venv/bin/keyturn
else
  fail "keyturn is not installed: not in PATH, @program@ or .venv/bin of the project" 127
fi
"""

_ROTATE_OPTIONS = """\
reason='' dry_run='' rehearse='' resume='' now='' yes=''@more_variables@
while [ "$#" -gt 0 ]; do
  case $1 in
    -e | --environment) need "$@"; environment=$2; shift ;;
    --environment=?*) environment=${1#*=} ;;
    --reason) need "$@"; reason=$2; shift ;;
    --reason=?*) reason=${1#*=} ;;
    --dry-run) dry_run=yes ;;
    --rehearse) rehearse=yes ;;
    --resume) resume=yes ;;
    --now) now=yes ;;
    --yes) yes=yes ;;
@more_cases@    -h | --help) usage; exit 0 ;;
    *) fail "unknown option '$1'; --help shows them" 2 ;;
  esac
  shift
done
"""

_ROTATE = """\
# One that fails does not keep the others from their turn; the first failure is the exit code.
status=0
for name in "$@"; do
  code=0
  "$keyturn" rotate "$name" --project-dir "$project" -e "$environment" \\
    ${reason:+--reason "$reason"} ${dry_run:+--dry-run} ${rehearse:+--rehearse} \\
    ${resume:+--resume} ${now:+--now} ${yes:+--yes} || code=$?
  [ "$status" -ne 0 ] || status=$code
  [ "$code" -ne 130 ] || break
done
exit "$status"
"""

_TEST_BODY = """\
json='' dry_run=''
while [ "$#" -gt 0 ]; do
  case $1 in
    -e | --environment) need "$@"; environment=$2; shift ;;
    --environment=?*) environment=${1#*=} ;;
    --json) json=yes ;;
    --dry-run) dry_run=yes ;;
    -h | --help) usage; exit 0 ;;
    *) fail "unknown option '$1'; --help shows them" 2 ;;
  esac
  shift
done

@find@
set -- test --project-dir "$project" -e "$environment" ${json:+--json}
if [ -n "$dry_run" ]; then
  printf 'would run: keyturn'
  printf ' %s' "$@"
  printf '\\n'
  exit 0
fi
exec "$keyturn" "$@"
"""

_TEST_USAGE = """\
Prove that every secret is present, well-formed, strong and working. Changes nothing.

  -e, --environment NAME  where; default: $KEYTURN_ENVIRONMENT, or @environment@
      --json              one JSON document, for machines
      --dry-run           print the command; run nothing
  -h, --help              show this
"""


def files(manifest: Manifest, deployment: Deployment) -> list[File]:
    """Return the scripts; one whose kinds the manifest does not have goes away."""
    made = {
        _DATABASE: _rotation(
            deployment,
            "Rotate the passwords of the database logins",
            _names(manifest, SecretKind.POSTGRES_LOGIN),
        ),
        _TOKENS: _rotation(
            deployment,
            "Rotate the keys that sign tokens",
            _names(manifest, SecretKind.JWT_SIGNING_KEY),
        ),
        _API: _api(deployment, services(manifest)),
        _TEST: _test(deployment) if manifest.secrets else None,
    }
    return [File(Family.SCRIPTS, path, text, mode=0o755) for path, text in made.items()]


def services(manifest: Manifest) -> dict[str, SecretName]:
    """Return what `--service` may be, each with its secret."""
    given = {name for each in manifest.consumers.values() for name in each.secrets}
    chosen = [
        secret
        for secret in manifest.secrets.values()
        if secret.kind in _SERVICE_NAMES
        or (secret.kind in _PERHAPS_SERVICES and secret.name in given)
    ]
    found = {str(secret.name): secret.name for secret in chosen}
    for kind, word in _SERVICE_NAMES.items():
        names = [secret.name for secret in chosen if secret.kind is kind]
        if len(names) == 1:
            found.setdefault(word, names[0])
    return found


def script_of(manifest: Manifest, secret: Secret) -> str | None:
    """Return the command line that rotates *secret* by a script; None where there is none."""
    if secret.kind is SecretKind.POSTGRES_LOGIN:
        return f"./{_DATABASE}"
    if secret.kind is SecretKind.JWT_SIGNING_KEY:
        return f"./{_TOKENS}"
    word = next((word for word, name in services(manifest).items() if name == secret.name), None)
    return None if word is None else f"./{_API} --service {word}"


def _names(manifest: Manifest, kind: SecretKind) -> list[SecretName]:
    return [secret.name for secret in manifest.secrets.values() if secret.kind is kind]


def _rotation(deployment: Deployment, what: str, names: Sequence[SecretName]) -> str | None:
    if not names:
        return None
    usage = f"{what}: {', '.join(names)}.\n\n{_OPTIONS}"
    options = _filled(_ROTATE_OPTIONS, more_variables="", more_cases="")
    body = f"{options}\n@find@\nset -- {' '.join(names)}\n{_ROTATE}"
    return _script(deployment, usage, body)


def _api(deployment: Deployment, known: dict[str, SecretName]) -> str | None:
    if not known:
        return None
    listed = ", ".join(known)
    words = "the key of one outside service"
    usage = f"Rotate {words}.\n\n      --service NAME      {listed}\n{_OPTIONS}"
    options = _filled(
        _ROTATE_OPTIONS,
        more_variables=" service=''",
        more_cases='    --service) need "$@"; service=$2; shift ;;\n'
        "    --service=?*) service=${1#*=} ;;\n",
    )
    cases = "".join(f"  {word}) set -- {name} ;;\n" for word, name in known.items())
    body = (
        f"{options}\ncase $service in\n{cases}"
        f"  '') fail 'name a service: --service {listed}' 2 ;;\n"
        f"  *) fail \"no service '$service'; there are {listed}\" 2 ;;\nesac\n\n@find@\n{_ROTATE}"
    )
    return _script(deployment, usage, body)


def _test(deployment: Deployment) -> str:
    return _script(deployment, _TEST_USAGE, _TEST_BODY)


def _script(deployment: Deployment, usage: str, body: str) -> str:
    return _filled(
        f"{_HEAD}{body}",
        usage=usage,
        find=_FIND,
        header=header(deployment, Family.SCRIPTS),
        program=deployment.program,
        environment=deployment.environment,
    )


def _filled(template: str, **words: str) -> str:
    for name, text in words.items():
        template = template.replace(f"@{name}@", text)
    return template
