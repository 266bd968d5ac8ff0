"""What one lesson alone needs: a module for each, with the name of its notebook."""
