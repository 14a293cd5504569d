"""How fast xdropd is, beside its peers, in one run: `sudo scripts/bench`.

One file a question (cost, hot_packet, drop_rate, load, edit, block, memory, start); each gives figures, and each figure
says what it must reach. Interfaces are only those in namespaces that are made here, and every load is bounded.
"""
