"""`perfusion generate` and `edit`: images without a server."""
