"""First suites to edit: a document made from what is there already, which runs as it stands and holds no secret."""
