"""`pagedbench kernels`: the time of each operation, compared with the machine's limit."""
