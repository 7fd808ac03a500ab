"""Rows into the store: validated, merged, committed with their bars."""
