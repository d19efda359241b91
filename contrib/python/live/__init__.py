"""A participant around the rules of tutti/: transport, session, ledger check and hashing."""
