"""The Postgres schema of a hospital: tables, migrations, views, queries."""
