"""Entries to what the kernel should hold, and the steps from one such state to another. Pure."""
