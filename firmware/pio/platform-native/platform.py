"""PlatformIO's side of the platform: nothing beyond what every platform has."""

from platformio.public import PlatformBase


class NativePlatform(PlatformBase):
    pass
