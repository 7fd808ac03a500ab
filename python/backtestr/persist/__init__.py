"""Backup, recovery and migration of a store."""
