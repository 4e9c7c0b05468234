"""Entry point of `python -m history`."""

from history.cli import main

if __name__ == "__main__":
    main()
