"""Entry point of `python -m workers`.

The processes of a worker's pool import this module too, so it stays empty but for the call.
"""

if __name__ == "__main__":
    import os
    import signal
    from types import FrameType

    def end(_number: int, _frame: FrameType | None) -> None:
        os._exit(0)

    # While the imports run there is nothing to bring to an end.
    signal.signal(signal.SIGTERM, end)

    from workers.cli import main

    main()
