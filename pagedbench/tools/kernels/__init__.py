"""`pagedbench kernels`: what each operation costs, beside its limit."""
