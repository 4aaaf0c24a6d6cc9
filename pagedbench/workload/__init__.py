"""What arrives: lengths and tokens, read or sampled, and arrival times."""
