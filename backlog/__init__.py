"""The research backlog as code: one Markdown file an item, parsed and checked."""
