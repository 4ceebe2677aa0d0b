"""`python -m razorbench`: the command line."""

import sys

from razorbench.harness.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
