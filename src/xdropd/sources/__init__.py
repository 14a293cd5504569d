"""Who lists something: files and callers. Each has a name, a listing and its troubles."""
