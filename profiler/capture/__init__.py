"""Facts of a run, one kind a file. Nothing here prices, judges or formats."""
