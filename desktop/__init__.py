"""The window in which an editor makes takes; PySide6.

It never imports torch: the work runs in a process of its own, and the window lives on without it.
"""
