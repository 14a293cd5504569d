"""What stands for both families where a version does, for programs that compute no columns and do without numpy."""

SELECTED = 46
"""The version of what is of both families: a selection of a database."""
