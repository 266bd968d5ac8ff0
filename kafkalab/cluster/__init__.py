"""One running cluster, wherever it is: how it is named and what one asks it."""
