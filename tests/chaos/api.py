"""Run `perfusion serve` on a disk that may be full."""

from api.__main__ import main
from tests.chaos import disk

if __name__ == "__main__":
    disk.install()
    main()
