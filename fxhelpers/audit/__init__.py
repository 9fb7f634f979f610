"""Audit: who serves, since when and why, and whether it is untouched: one read model, one verification."""
