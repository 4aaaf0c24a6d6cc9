"""What arrives: lengths and tokens, read or drawn, and the times at which they come."""
