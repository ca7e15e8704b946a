"""`relay`: an SMTP relay bridge. Mail in by SMTP, durably stored, out by SMTP or a provider's REST API."""

__version__ = "0.1.0"
