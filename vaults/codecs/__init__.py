"""Codecs: Python objects to bytes and back."""
