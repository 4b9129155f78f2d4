import os
import sys

from bosh_lxd_cpi.protocol.cli import run

run(sys.argv[1:], os.environ)
