"""Text to entries: addresses, YAML, list files, settings. Pure: no clock, no file, no kernel."""
