"""The soak: clients and brokers under a random script of faults, and books that have to balance after each round."""
