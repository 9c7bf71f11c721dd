"""``python -m starconv.cli``: the command line without its script."""

from .application import main

main()
