"""How providers are spoken to: one file each, none knows another. The contract is in transports/base.py."""
