"""The speed figures: relay beside Postfix, interleaved in one run. `make bench` or `python -m bench`; see docs/performance.md."""
