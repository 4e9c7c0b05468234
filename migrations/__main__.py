"""Entry point of `python -m migrations`."""

from migrations.cli import main

if __name__ == "__main__":
    main()
