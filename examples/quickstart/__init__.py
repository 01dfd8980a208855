"""A small company whose systems talk through the control plane, to look at and to break."""
