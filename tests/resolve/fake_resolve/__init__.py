"""A stateful, strict stand-in for DaVinci Resolve's scripting interface.

Nothing here was seen on a real Resolve: each rule carries its source, a section of the research in
`design/resolve.md` ("6.2" is its table of what must be modelled) with the public text behind it, so
that a measurement on a real one can overturn it in one place. Where the research contradicts itself
there is a switch on `World`, and what is tested must pass with both.

The state (`World`) lives in the test's process, to be looked at and changed by hand as an editor
would. A script under test runs in a process of its own, under any Python from 3.6 on, with the
proxies of `inside/` in place of Resolve's own remote objects; `Host` starts it as Resolve would.

Strict: what no correct program does (calling what the edition lacks, saving the project, deleting
what it did not place, arguments of another kind) is written down in `World.misuses`, while the call
answers as quietly as Resolve's would. A test ends with that list empty.
"""

from fake_resolve.host import Host
from fake_resolve.local import wrapped
from fake_resolve.media import Media, frame_of
from fake_resolve.world import TIERS, Switches, World

__all__ = ["TIERS", "Host", "Media", "Switches", "World", "frame_of", "wrapped"]
