"""`python -m nerf_app` is `nerf-app`."""

import sys

from nerf_app.cli import main

if __name__ == "__main__":
    sys.exit(main())
