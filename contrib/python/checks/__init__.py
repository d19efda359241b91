"""The checkers of the vector files, one function each."""
