"""The preflight: what is wrong with a cluster, each finding in one line that says what to do."""
