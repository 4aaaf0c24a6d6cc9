"""`pagedbench replay`: a trace against somebody's server."""
