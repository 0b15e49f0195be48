"""One tenant: its paths, tokens, overlay, and the handle that every service takes first. Knows nothing of HTTP."""
