"""`pagedbench replay`: the requests of a trace against a server of others."""
