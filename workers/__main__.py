"""Entry point of `python -m workers`.

The processes of a worker's pool import this module too, so it stays empty but for the call.
"""

if __name__ == "__main__":
    from workers.cli import main

    main()
