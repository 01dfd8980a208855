"""`python -m controlplane NAME` runs a command, also where there is no manage.py."""

from controlplane.cli import main

main()
