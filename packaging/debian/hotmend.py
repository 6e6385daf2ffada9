#!/usr/lib/hotmend/bin/python3 -I
"""The `hotmend` command, in its own environment and isolated from what the caller's has set for Python."""

import os

from hotmend.cli.main import main

if __name__ == "__main__":
    for name in ("PYTHONPATH", "PYTHONHOME"):  # for the processes it starts
        os.environ.pop(name, None)
    main()
