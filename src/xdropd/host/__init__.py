"""The machine around the daemon: files, interfaces, systemd, the socket."""
