"""The exchange types of the API, one file per external system."""
