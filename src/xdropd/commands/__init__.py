"""The programs that users start; the only place that knows exit codes."""
