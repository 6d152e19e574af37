"""`perfusion export`, `inspect` and `push`: concepts for other tools and other people."""
