"""SCons' side of the platform: the machine's own compiler, one program."""

from SCons.Script import Default, DefaultEnvironment

env = DefaultEnvironment()
env.Replace(PROGNAME="program", CC="gcc", CXX="g++", AR="ar", RANLIB="ranlib")
Default([env.BuildProgram()])
