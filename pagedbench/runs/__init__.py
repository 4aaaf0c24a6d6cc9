"""A run on disk, from its options to its folder and back."""
