"""Rows of the table: where the classifier is."""

from __future__ import annotations

from layouts import Layout

LAYOUTS: tuple[Layout, ...] = ()
