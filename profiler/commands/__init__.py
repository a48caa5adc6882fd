"""The commands of the command line, one file each. What they need is imported when they run: help waits for nothing."""
