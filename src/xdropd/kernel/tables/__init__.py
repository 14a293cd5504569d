"""The maps of a generation, one file for each family of them: fill, change, read."""
