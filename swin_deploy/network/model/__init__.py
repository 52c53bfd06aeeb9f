"""The eager networks: what was trained, and what every later form is compared with.

One letter per axis, used by every shape comment in ``swin_deploy.network.model`` and
``swin_deploy.network.export_form``:

    b  images in the batch               c  channels, c = a * d
    h  token rows in the grid            a  attention heads
    w  token columns in the grid         d  channels per head
    p  window height, in tokens          n  tokens per window, n = p * q
    q  window width, in tokens           k  windows per image, k = (h / p) * (w / q)
"""

from __future__ import annotations

import os
import signal

from swin_deploy.core.outcome import SIGNALS


def import_torch() -> None:
    """Import PyTorch with the signals that stop a process held back until it is done.

    An exception that a signal raises while PyTorch's native modules set themselves up is swallowed
    there, or aborts the process. Held back, the signal is delivered a moment later, and the program
    unwinds. Call this, from the main thread, before the first import of anything that needs torch.
    """
    # Its threads would otherwise spin for one another while another program has their core, and
    # PyTorch collapses where ONNX Runtime hardly notices.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        import torch.onnx  # noqa: F401 - for what the import itself does
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
