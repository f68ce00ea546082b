"""Start the command line: `python -m rtok`, or the folder `rtok` run as a script."""

import sys
from pathlib import Path

if not __package__:
    # `accelerate launch rtok train` runs this folder as a script. Python then puts the folder itself on the
    # path, where `rtok` cannot be found and its modules would hide others of the same name.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rtok.cli.app import main

if __name__ == "__main__":
    main()
