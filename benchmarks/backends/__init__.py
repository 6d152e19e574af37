"""Backends of the U-Net: how long a step takes, and how far their images are apart."""
