"""``python -m fxhelpers`` is ``fx``."""

from fxhelpers.cli import main

main()
