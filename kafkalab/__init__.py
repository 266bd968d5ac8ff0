"""The thin helper under the lessons."""
