"""Seconds: what was timed, what roofs there are over it, and what is forecast."""
