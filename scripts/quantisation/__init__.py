"""The measurements behind docs/int8.md."""
