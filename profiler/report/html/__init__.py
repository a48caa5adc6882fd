"""One self-contained HTML file of a run or of the audit: `page.py` makes it, the other files make what is in it."""
