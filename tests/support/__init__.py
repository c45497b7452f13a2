"""What the tests share: builders, given/when/then, a ledger without a database, databases, proxies."""
