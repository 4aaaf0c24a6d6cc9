"""The command line: one verb a file, joined in `app`."""
