import os
import sys

from bosh_lxd_cpi.protocol.cli import main

sys.exit(main(sys.argv[1:], os.environ))
