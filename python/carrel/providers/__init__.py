"""One adapter for each kind of model provider, behind one protocol."""
