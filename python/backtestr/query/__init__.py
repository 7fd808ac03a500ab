"""Requests answered from one version of the store."""
