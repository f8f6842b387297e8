"""`python -m fastprompt` is the command line."""

import sys

from fastprompt.cli import main

if __name__ == "__main__":
    sys.exit(main())
