"""`python -m viscera`."""

from viscera.cli.main import main

main()
