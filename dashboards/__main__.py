"""Entry point of `python -m dashboards`."""

if __name__ == "__main__":
    from dashboards.command_line import main

    main()
