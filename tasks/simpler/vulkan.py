"""SAPIEN 2.2.2 on a Vulkan driver without `VK_KHR_external_semaphore_fd`, such as Mesa's for processors up to 25.

SAPIEN asks every driver for it, and needs it for what it shares with CUDA alone. Where no driver has it, SAPIEN is made
to ask for what it has asked for anyway, in the memory of this process; nothing on the disk is changed.
"""

import ctypes
import os
import re
from pathlib import Path

ASKED, INSTEAD = b"VK_KHR_external_semaphore_fd", b"VK_KHR_external_memory_fd"
LIBRARY = "libsapien"
READ, WRITE = 1, 2
"""`PROT_READ` and `PROT_WRITE` of mprotect(2)."""


class Created(ctypes.Structure):
    """Vulkan's `VkInstanceCreateInfo`; its type is 1."""

    _fields_ = (
        *(("type", ctypes.c_uint32), ("next", ctypes.c_void_p), ("flags", ctypes.c_uint32), ("app", ctypes.c_void_p)),
        *(("layers", ctypes.c_uint32), ("layer_names", ctypes.c_void_p)),
        *(("extensions", ctypes.c_uint32), ("extension_names", ctypes.c_void_p)),
    )


class Extension(ctypes.Structure):
    """Vulkan's `VkExtensionProperties`."""

    _fields_ = (("name", ctypes.c_char * 256), ("version", ctypes.c_uint32))


def offered() -> list[set[bytes]]:
    """The extensions of each device that Vulkan finds; none where there is no Vulkan."""
    try:
        vulkan = ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return []
    instance, count = ctypes.c_void_p(), ctypes.c_uint32()
    if vulkan.vkCreateInstance(ctypes.byref(Created(type=1)), None, ctypes.byref(instance)):
        return []
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    devices = (ctypes.c_void_p * count.value)()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
    told = []
    for device in map(ctypes.c_void_p, devices):
        vulkan.vkEnumerateDeviceExtensionProperties(device, None, ctypes.byref(count), None)
        listed = (Extension * count.value)()
        vulkan.vkEnumerateDeviceExtensionProperties(device, None, ctypes.byref(count), listed)
        told.append({extension.name for extension in listed})
    vulkan.vkDestroyInstance(instance, None)
    return told


def forgo() -> None:
    """Make the SAPIEN that this process has loaded ask for no extension that no device has and that it can do without.

    It has to be done before SAPIEN's first try: after one that has failed it compiles no more shaders.
    """
    devices = offered()
    if not devices or any(ASKED in device for device in devices):
        return
    page, protect = os.sysconf("SC_PAGESIZE"), ctypes.CDLL(None, use_errno=True).mprotect
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, *_ = line.split()
        if LIBRARY not in line or not rights.startswith("r--"):
            continue
        first, last = (int(end, 16) for end in span.split("-"))
        for found in re.finditer(re.escape(ASKED + b"\0"), ctypes.string_at(first, last - first)):
            at = first + found.start()
            begin = at - at % page
            around = ctypes.c_void_p(begin), ctypes.c_size_t(at + len(ASKED) - begin)
            if protect(*around, READ | WRITE):
                raise OSError(ctypes.get_errno(), "SAPIEN's memory cannot be changed")
            ctypes.memmove(at, INSTEAD.ljust(len(ASKED), b"\0"), len(ASKED))
            protect(*around, READ)
