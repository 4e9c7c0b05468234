"""`python -m migrations.partition`."""

from migrations.partition.cli import main

main()
