"""What a node says of its machine, so that a gateway does not ask one that is hot, empty or short of memory."""

from typing import Dict

REPORT_EVERY_S = 30.0


def read_health() -> Dict[str, float]:
    """{battery (%), temperature_c, free_memory_mib}; a value the machine does not give is left out.

    A machine without a battery reports 100, the hottest sensor counts.
    """
    import psutil

    # Coarse: what is free depends on how much data this process holds.
    health = {"free_memory_mib": float(psutil.virtual_memory().available >> 26 << 6)}
    # psutil has these two on Linux and a few other systems only.
    if hasattr(psutil, "sensors_battery"):
        battery = psutil.sensors_battery()
        health["battery"] = float(battery.percent) if battery else 100.0
    if hasattr(psutil, "sensors_temperatures"):
        degrees = [sensor.current for group in psutil.sensors_temperatures().values() for sensor in group]
        if degrees:
            health["temperature_c"] = float(max(degrees))
    return health
