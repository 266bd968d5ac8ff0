"""What is neither product nor test: the bench, a whole class, the makers of exercises and locks."""
