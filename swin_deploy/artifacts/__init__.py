"""Run folders: whole files, their hashes, one writer at a time. Only here do files appear."""
