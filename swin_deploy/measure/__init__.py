"""What is found out about a run: agreement, speed, accuracy, cost, sensitivity, scaling.

In comes a finished run, or any two forms of a network; out comes a typed report, which the same
class writes and reads, and a verdict.
A folder for each question: ``verify``, ``bench``, ``evaluate``, ``sensitivity``, ``scaling``, and
``cost``; ``workers`` do it in many processes. Nothing here changes a run or prints a table.
"""
