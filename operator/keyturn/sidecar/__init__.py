"""The pod shell: credentials from a mounted Secret, or renewed here, for the SDKs of one pod."""
