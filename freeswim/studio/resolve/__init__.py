"""The daemon's side of DaVinci Resolve: what is to be made, what is to be done there, by whom."""
