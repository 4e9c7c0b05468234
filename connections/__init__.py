"""How a program of ours proves who it is to Postgres; knows no table and no Pulumi."""
