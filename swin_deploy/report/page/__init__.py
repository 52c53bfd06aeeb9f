"""The report of runs: one page, with its Markdown and its JSON."""
