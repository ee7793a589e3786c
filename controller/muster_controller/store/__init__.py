"""What the controller remembers: tables, transactions, files, migrations."""
