"""The control socket's verbs: answers, which read, and operations, which change."""
