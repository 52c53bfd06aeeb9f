"""What is said of a checkpoint beside its tensors: where it lies, and by the user."""

from __future__ import annotations

from dataclasses import dataclass, fields

from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.interface import Size
from swin_deploy.network.swin import Activation, HeadActivation


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What the tensors of a checkpoint do not tell, from elsewhere; None where it is not known.

    Attributes:
        image_size: (height, width) that the network was trained for, in pixels.
        window_size: Side of its windows, in tokens.
        stage_windows: (rows, columns) of the windows of each stage, in tokens.
        pretrained_window_sizes: As in ``SwinConfig``.
        rules: (field, value) of ``Semantics`` that the library was told to do otherwise.
        windows_as_trained: Whether the library goes on with the windows of ``image_size`` whatever
            image comes.
        head_channels: Channels of every attention head.
        activation: Of the MLPs.
    """

    image_size: Size | None = None
    window_size: int | None = None
    stage_windows: tuple[Size, ...] | None = None
    pretrained_window_sizes: tuple[int, ...] | None = None
    rules: tuple[tuple[str, str], ...] | None = None
    windows_as_trained: bool | None = None
    head_channels: int | None = None
    activation: Activation | None = None

    def or_else(self, other: Hints) -> Hints:
        """These, and what ``other`` says where these say nothing."""
        names = [field.name for field in fields(self)]
        values = {n: getattr(self, n) for n in names}
        return Hints(**{n: getattr(other, n) if v is None else v for n, v in values.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What the user says about a checkpoint.

    Attributes:
        image_size: To run at; None for the size that it was trained for.
        window: To run with, which resizes what depends on it; None for that of the training.
        ema: Take the moving average of the weights.
        container: Name of the entry of the file whose tensors are taken, dots between nested ones;
            None for the only one, or the one that is known by its name.
        prefix: Of the names of the network's tensors; None where only one network is in the file.
        head: Name of the module that is its head, commas between several in a row, or ``none``;
            None where only one fits.
        head_activation: The function between the linear layers of its head; None where there is
            one layer, or nothing between them.
        wanted: The network that the checkpoint has to be; None for what its tensors say.
        hints: What is said of it where it lies.
        rules: The fields of the semantics of ``wanted`` that go before those of its library.
        stated: Fields of ``wanted`` that the user wrote, so that the tensors have to agree.
    """

    image_size: Size | None = None
    window: int | None = None
    ema: bool = False
    container: str | None = None
    prefix: str | None = None
    head: str | None = None
    head_activation: HeadActivation | None = None
    wanted: NetworkConfig | None = None
    hints: Hints = Hints()
    rules: tuple[str, ...] = ()
    stated: tuple[str, ...] = ()

    def written(self) -> list[str]:
        """The options of the command line that say how a file is read, as they are written."""
        words = [] if self.window is None else ["--window", str(self.window)]
        words += ["--ema"] if self.ema else []
        named = {
            "--container": self.container,
            "--prefix": self.prefix,
            "--head": self.head,
            "--head-activation": self.head_activation,
        }
        for option, value in named.items():
            words += [] if value is None else [option, value]
        return words
