"""Run folders: what a run consists of, one writer at a time, and a publication in one step.

In comes what the stages of a run made; out goes a ``Run``, which is the only way to read one: its
files are those that were recorded, and what it says of itself is typed.
Here stand the names, records and versions of a run folder. What makes or measures one comes later.
"""
