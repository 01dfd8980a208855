"""The table of the product's own commands, by what they are for."""

GROUPS = {
    "Run": ("up", "stop", "status", "doctor", "migrate", "prune"),
    "Run one process of `up` by itself": ("deliver", "worker", "edge", "monitor", "listen_tcp", "listen_udp"),
    "Send and find": ("send", "why", "jobs", "index_keys"),
    "Hold and retire systems": ("pause", "resume", "maintenance", "retire"),
    "Keys": ("create_api_key", "revoke_api_key", "create_signing_key", "rotate_keys"),
    "Test": ("packs", "draft_suite", "apply", "export", "run_suite", "rerun", "import_results"),
    "Size tests": ("seed_history",),
}
# They start an installation, or say what one would lack; every other command of ours needs one that is there.
BEGINNERS = frozenset(("up", "doctor", "migrate", *GROUPS["Run one process of `up` by itself"]))
