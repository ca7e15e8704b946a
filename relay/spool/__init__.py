"""The spool: accepted messages, durably. The contract is in spool/base.py, the SQLite one in spool/sqlite.py."""
