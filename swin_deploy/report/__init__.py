"""Results for people: tables, plots and progress in the terminal, and the page about a run.

In come the typed reports of ``measure`` and ``pipeline``; out comes text, HTML, Markdown or a plot.
Here is decided how a result is said, and in ``headline`` what the first line of a page is.
Nothing is measured or judged here.
"""
