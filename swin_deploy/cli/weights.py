"""What ``--weights`` and the options beside it come to, of all commands that take them."""

from __future__ import annotations

from swin_deploy.checkpoints.hub import resolve_source
from swin_deploy.checkpoints.options import LoadOptions
from swin_deploy.checkpoints.source import Source, with_hints
from swin_deploy.interrupts import import_torch
from swin_deploy.preprocessing import Size
from swin_deploy.report.console import Downloads
from swin_deploy.variants import Variant


def load_options_of(
    network: Variant | None, image: Size | None, window: int | None, ema: bool
) -> LoadOptions:
    """How the user wants a checkpoint to be read."""
    return LoadOptions(
        image_size=image,
        window=window,
        ema=ema,
        wanted=None if network is None else network.config,
        rules=() if network is None else network.rules,
        stated=() if network is None else network.stated,
    )


def fetch_source(text: str, variant: str | None) -> Source:
    """As ``resolve_source``, with the progress of downloads shown."""
    with Downloads().shown() as downloads:
        return resolve_source(text, variant, downloads)


def fetch_network(
    text: str, variant: str | None, network: Variant | None, options: LoadOptions
) -> tuple[Variant, Source, LoadOptions]:
    """Fetch and read a checkpoint.

    Args:
        text: As of ``resolve_source``.
        variant: Likewise.
        network: What the user named; None for what the checkpoint is.
        options: From ``load_options_of``.

    Returns:
        The network, where its weights lie, and how they are read.

    Raises:
        SwinDeployError: As ``resolve_source`` and ``resolve_variant``.
    """
    with Downloads().shown() as downloads:
        source = resolve_source(text, variant, downloads)
        options = with_hints(options, source)
        import_torch()
        from swin_deploy.checkpoints.resolve import resolve_variant

        return resolve_variant(source, network, options, downloads), source, options
