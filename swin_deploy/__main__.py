"""``python -m swin_deploy``."""

from swin_deploy.cli.main import entry

if __name__ == "__main__":
    entry()
