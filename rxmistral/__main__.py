"""`python -m rxmistral` is the command `rxmistral`."""

import sys

from .cli import main

sys.exit(main())
