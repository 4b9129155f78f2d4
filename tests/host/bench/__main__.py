"""Run bin/bench."""

import sys

from tests.host.bench.cli import main

sys.exit(main(sys.argv[1:]))
