"""``python -m swin_deploy``."""

from __future__ import annotations

from swin_deploy.cli.main import entry

if __name__ == "__main__":
    entry()
