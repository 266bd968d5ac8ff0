"""Exercises that the cluster checks, and the table of a class."""
