"""The origin's three programs, two sources and a printer, and the producer that lessons share with them."""
