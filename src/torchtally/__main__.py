"""`python -m torchtally`: the same as the `torchtally` command."""

from .profiler.cli import main

main()
