"""Checkpoints of other libraries: read safely, recognised by their keys, renamed to ours.

Our own names are those of the authors' release (``swin_deploy.network.model.swin``), and
timm's for the Vision Transformer (``swin_deploy.network.model.vit``). A checkpoint loads completely
or not at all. The layouts that are known are the table in ``dialects``.
"""
