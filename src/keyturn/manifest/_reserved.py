"""Variable names that no manifest may hand to a program."""

from __future__ import annotations

from keyturn.manifest.strength import words

__all__ = ["is_keyturn_variable", "is_loader_variable", "is_refused_variable"]

# Whoever may set these decides what programs run in the child's place.
_LOADER_VARIABLES = words(
    "BASH_ENV GIT_ASKPASS GIT_SSH GIT_SSH_COMMAND IFS JAVA_TOOL_OPTIONS NODE_OPTIONS PATH PERL5LIB"
    " PERL5OPT PROMPT_COMMAND PYTHONHOME PYTHONPATH PYTHONSTARTUP RUBYLIB RUBYOPT SHELLOPTS"
    " _JAVA_OPTIONS"
)
# What `run` refuses to hand on: drafting one would make a manifest that nothing runs with.
_REFUSED_VARIABLES = words(
    "BASHOPTS BASH_ENV BROWSER BUNDLE_GEMFILE CDPATH CLASSPATH CORECLR_PROFILER_PATH"
    " COR_PROFILER_PATH DOTNET_STARTUP_HOOKS EDITOR ENV GCONV_PATH GEM_HOME GEM_PATH GIT_ASKPASS"
    " GIT_DIR GIT_EDITOR GIT_EXEC_PATH GIT_EXTERNAL_DIFF GIT_PAGER GIT_PROXY_COMMAND"
    " GIT_SEQUENCE_EDITOR GIT_SSH GIT_SSH_COMMAND GIT_TEMPLATE_DIR GIT_WORK_TREE GLIBC_TUNABLES"
    " GOFLAGS GRADLE_OPTS HOME HOSTALIASES IFS JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS LESSCLOSE"
    " LESSOPEN LOCPATH LUA_CPATH LUA_INIT LUA_PATH MALLOC_CONF MANPAGER MAVEN_OPTS NLSPATH"
    " NODE_OPTIONS NODE_PATH NODE_TLS_REJECT_UNAUTHORIZED NPM_CONFIG_SCRIPT_SHELL OPENSSL_CONF"
    " OPENSSL_ENGINES OPENSSL_MODULES PAGER PATH PERL5DB PERL5LIB PERL5OPT PERLLIB PHPRC"
    " PHP_INI_SCAN_DIR PROMPT_COMMAND PS4 PYTHONBREAKPOINT PYTHONHOME PYTHONINSPECT PYTHONPATH"
    " PYTHONSTARTUP PYTHONUSERBASE PYTHONWARNINGS RESOLV_HOST_CONF RUBYLIB RUBYOPT RUSTC_WRAPPER"
    " SHELL SHELLOPTS SSH_ASKPASS SSLKEYLOGFILE SUDO_ASKPASS TERMCAP TERMINFO VISUAL _JAVA_OPTIONS"
)
_REFUSED_PREFIXES = ("LD_", "DYLD_", "BASH_FUNC_", "GIT_CONFIG", "NPM_CONFIG_")
_LOADER_PREFIXES = ("LD_", "DYLD_")


def is_keyturn_variable(name: str) -> bool:
    """Tell whether *name* is one that Keyturn sets itself."""
    return name.upper().startswith("KEYTURN_")


def is_loader_variable(name: str) -> bool:
    """Tell whether *name* decides what programs run."""
    upper = name.upper()
    return upper in _LOADER_VARIABLES or upper.startswith(_LOADER_PREFIXES)


def is_refused_variable(name: str) -> bool:
    """Tell whether `run` would refuse to set *name*: it changes what programs do."""
    upper = name.upper()
    refused = upper in _REFUSED_VARIABLES or upper.startswith(_REFUSED_PREFIXES)
    return refused or is_loader_variable(name)
