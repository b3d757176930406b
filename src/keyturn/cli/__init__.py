"""The command line: parse, call a use case of `keyturn.app`, print."""
