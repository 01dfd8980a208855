"""Ways in that are no HTTP: sockets that stay open, datagrams, and hooks; thin faces of the one intake."""
