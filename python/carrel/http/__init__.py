"""The HTTP edge: authentication, dialects, status codes. Decides nothing itself."""
