"""The viewer: one or two clips, frame-exact, compared side against side.

`frames` decodes, `reel` keeps what was decoded, `player` has the one clock, `canvas` paints, and
`panel` is what the window sees of it all. What is heard goes the same way: `track` decodes and
keeps, `sound` follows the clock, `speakers` is the device.
"""
