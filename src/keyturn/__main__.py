"""`python -m keyturn` is `keyturn`."""

import sys

from keyturn.fast import main

sys.exit(main(["keyturn", *sys.argv[1:]]))
