"""The Pulumi components: settings, platforms, and what every platform runs."""
