"""Who may use the server, for what and how much of it; what was used, and what was done to it.

`gate` asks for a key and a scope, `buckets` and `meter` count, `writer` keeps what was counted; all of it is in one SQLite file.
"""
