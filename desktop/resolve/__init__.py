"""DaVinci Resolve: who is connected, what is asked for there, and where takes have gone."""
