"""`python -m stacks`: bring a stack up and look at it."""

from stacks.command_line import application

application(prog_name="python -m stacks")
