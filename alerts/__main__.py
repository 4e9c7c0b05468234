"""Entry point of `python -m alerts`."""

if __name__ == "__main__":
    from alerts.command_line import main

    main()
