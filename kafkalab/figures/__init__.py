"""What several lessons draw: the colours, the live figure, the workflow."""
