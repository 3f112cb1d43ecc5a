"""The format types of the API."""
