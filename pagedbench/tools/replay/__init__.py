"""`pagedbench replay`: the requests of a trace against a live server."""
