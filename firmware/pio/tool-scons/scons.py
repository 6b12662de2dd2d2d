"""PlatformIO starts <tool-scons>/scons.py: hand over to the SCons of its own Python environment."""

import SCons.Script

SCons.Script.main()
