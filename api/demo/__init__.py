"""The demo: two subjects that we draw ourselves, taught and composed over REST."""
