"""Runs the command `rxmistral` as `python -m rxmistral`."""

import sys

from .cli import main

sys.exit(main())
