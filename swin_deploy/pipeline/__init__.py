"""The whole way in one call: stages as data, run in order, gated, published, resumed.

In comes a request; out comes a published run, or an error and nothing. ``request`` says what can be
asked, ``plan`` what follows from it, ``stages`` what is done, ``gate`` what has to hold.
A new stage is a row in ``stages``, and what it says of itself a class in ``run.details``. How a
graph is changed or an engine built stands below.
"""
