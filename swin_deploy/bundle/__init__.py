"""What is shipped to a device: graphs, references, the runtime, and hashes of all of it.

In comes a finished run and targets; out comes one zip file with the same bytes every time.
Here stands what makes and signs it. What reads it is ``swin_deploy.runtime``, which goes with it.
"""
