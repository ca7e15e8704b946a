"""Programs in the languages of legacy apps, each of which sends one message. tests/e2e/test_clients.py runs them."""
