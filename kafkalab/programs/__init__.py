"""The origin's three programs: two sources and a printer."""
