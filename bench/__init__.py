"""How fast xdropd is, beside its peers, in one run: `sudo scripts/bench`.

One file a question, such as cost, load or fleet (`__main__.py` names them all); each gives figures, and a figure may
say what it must reach. Interfaces are only those in namespaces that are made here, and every load is bounded.
"""
