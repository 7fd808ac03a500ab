"""Rows read before they are asked for: declared walks, and what the last requests foretell."""
