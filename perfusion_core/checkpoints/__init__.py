"""Base models in every form that people have them: folders, hub names and single files."""
