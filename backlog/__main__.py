"""Entry point of `python -m backlog`."""

if __name__ == "__main__":
    from backlog.command_line import main

    main()
