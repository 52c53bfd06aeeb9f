"""The eager networks: what was trained, and what every later form is compared with.

One letter per axis, used by every shape comment in ``swin_deploy.network.model`` and
``swin_deploy.network.export_form``:

    b  images in the batch               c  channels, c = a * d
    h  token rows in the grid            a  attention heads
    w  token columns in the grid         d  channels per head
    p  window height, in tokens          n  tokens per window, n = p * q
    q  window width, in tokens           k  windows per image, k = (h / p) * (w / q)
"""
