"""Which part of a scan the network must see, and whether it is a CT at all."""
