import os
import sys

from bosh_lxd_cpi.cli import main

sys.exit(main(sys.argv[1:], os.environ))
