"""Checking a running server from outside. Standard library only."""
