"""The kernel's BPF: compile, load, attach, fill."""
