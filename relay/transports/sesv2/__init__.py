"""SendEmail of Amazon SES's API v2: what a message becomes, and what its answers mean. Pure.

Shared by the transports that speak this API, to Amazon itself or to who stands in front of it; how a request is proven to be
ours, and where it goes, is theirs.
"""
