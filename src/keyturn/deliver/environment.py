"""
What `run` may hand to a child: which names, how large, and the variable that tells the versions.

Pure, and importing it costs nothing: whoever is in a hurry may use the constants.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyturn.core.ids import SecretName, VariableName
    from keyturn.core.value import SecretValue

__all__ = [
    "DANGEROUS_NAMES",
    "DANGEROUS_PREFIXES",
    "MAX_ENTRY_BYTES",
    "MAX_TOTAL_BYTES",
    "VERSIONS_VARIABLE",
    "check_names",
    "check_variables",
    "versions_text",
]

# Tells the child which version of each secret it was given.
VERSIONS_VARIABLE = "KEYTURN_VERSIONS"

# `NAME=VALUE` without its final NUL: MAX_ARG_STRLEN is 32 pages (execve(2)).
MAX_ENTRY_BYTES = 131_071
# A quarter of the usual 8 MiB stack holds arguments and environment together; the
# kernel keeps some of it, and the arguments need room as well.
MAX_TOTAL_BYTES = 2_097_152 - 131_072

# Each of these makes some program run other code than it would, so a secret of
# that name is a mistake or an attack.
DANGEROUS_NAMES = frozenset(
    {
        "PATH",
        "HOME",
        "SHELL",
        "IFS",
        "ENV",
        "BASH_ENV",
        "SHELLOPTS",
        "BASHOPTS",
        "PS4",
        "PROMPT_COMMAND",
        "CDPATH",
        "GCONV_PATH",
        "LOCPATH",
        "NLSPATH",
        "GLIBC_TUNABLES",
        "MALLOC_CONF",
        "HOSTALIASES",
        "RESOLV_HOST_CONF",
        "TERMINFO",
        "TERMCAP",
        "EDITOR",
        "VISUAL",
        "PAGER",
        "BROWSER",
        "MANPAGER",
        "LESSOPEN",
        "LESSCLOSE",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "PYTHONINSPECT",
        "PYTHONBREAKPOINT",
        "PYTHONUSERBASE",
        "PYTHONWARNINGS",
        "NODE_OPTIONS",
        "NODE_PATH",
        "NODE_TLS_REJECT_UNAUTHORIZED",
        "NPM_CONFIG_SCRIPT_SHELL",
        "PERL5LIB",
        "PERL5OPT",
        "PERL5DB",
        "PERLLIB",
        "RUBYLIB",
        "RUBYOPT",
        "GEM_HOME",
        "GEM_PATH",
        "BUNDLE_GEMFILE",
        "PHPRC",
        "PHP_INI_SCAN_DIR",
        "LUA_PATH",
        "LUA_CPATH",
        "LUA_INIT",
        "CLASSPATH",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "_JAVA_OPTIONS",
        "MAVEN_OPTS",
        "GRADLE_OPTS",
        "DOTNET_STARTUP_HOOKS",
        "CORECLR_PROFILER_PATH",
        "COR_PROFILER_PATH",
        "GOFLAGS",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_ASKPASS",
        "GIT_EDITOR",
        "GIT_SEQUENCE_EDITOR",
        "GIT_EXTERNAL_DIFF",
        "GIT_PAGER",
        "GIT_PROXY_COMMAND",
        "GIT_EXEC_PATH",
        "GIT_TEMPLATE_DIR",
        "GIT_DIR",
        "GIT_WORK_TREE",
        "RUSTC_WRAPPER",
        "SSH_ASKPASS",
        "SUDO_ASKPASS",
        "OPENSSL_CONF",
        "OPENSSL_ENGINES",
        "OPENSSL_MODULES",
        "SSLKEYLOGFILE",
    }
)
# `LD_PRELOAD` and its family, macOS's, exported shell functions, git's settings, and
# Keyturn's own.
DANGEROUS_PREFIXES = ("LD_", "DYLD_", "BASH_FUNC_", "GIT_CONFIG", "NPM_CONFIG_", "KEYTURN_")

_POINTER_BYTES = 8


def check_names(names: Iterable[str]) -> None:
    """
    Let through the names that can be variables and change no program's own behaviour.

    Raises:
        DeliveryError: One of them cannot, or would.
    """
    from keyturn.core.ids import is_variable_name

    for name in names:
        if not is_variable_name(name):
            # Shown by `ascii`, so that control characters cannot reach a terminal.
            raise _refused(
                f"{ascii(name)[:80]} cannot name a variable",
                "use letters, digits and `_`, not starting with a digit",
            )
        if _is_dangerous(name):
            raise _refused(
                f"the variable `{name}` would change how programs run",
                "choose another variable name",
            )


def check_variables(
    variables: Mapping[VariableName, SecretValue],
    *,
    total_limit_bytes: int = MAX_TOTAL_BYTES,
) -> None:
    """
    Let through what the kernel can put into an environment.

    Args:
        total_limit_bytes: All entries together; half of `ARG_MAX` is on the safe side.

    Raises:
        DeliveryError: A name or a value cannot be carried. Tells names and sizes only.
    """
    check_names(variables)
    total = 0
    for name, value in variables.items():
        size = len(name) + 1 + value.size_bytes
        if size > MAX_ENTRY_BYTES:
            raise _refused(
                f"the value for `{name}` has {value.size_bytes} bytes;"
                f" an environment carries {MAX_ENTRY_BYTES - len(name) - 1}",
                'deliver it as a file: `format = "files"`',
            )
        if b"\0" in value.reveal():
            raise _refused(
                f"the value for `{name}` holds a NUL byte, which no environment carries",
                'store it in base64, or deliver it as a file: `format = "files"`',
            )
        total += size + 1 + _POINTER_BYTES
    if total > total_limit_bytes:
        raise _refused(
            f"the environment would have {total} bytes; {total_limit_bytes} is the most",
            "give the consumer fewer secrets, or deliver the large ones as files",
        )


def versions_text(versions: Mapping[SecretName, int]) -> str:
    """Return what `KEYTURN_VERSIONS` holds: `db=3 jwt=1`, sorted by name."""
    return " ".join(f"{name}={versions[name]}" for name in sorted(versions))


def _is_dangerous(name: str) -> bool:
    # npm reads its settings in lower case too.
    upper = name.upper()
    return upper in DANGEROUS_NAMES or upper.startswith(DANGEROUS_PREFIXES)


def _refused(message: str, hint: str) -> Exception:
    from keyturn.errors import DeliveryError

    return DeliveryError(message, hint=hint, code="delivery.environment")
