"""A server seen from outside: loads for it, its iterations, and the costs that explain them."""
