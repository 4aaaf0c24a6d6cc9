"""`pagedbench reproduce`: the paper's figures and claims."""
