package dev.aerogram.sdk

/** What a device says of itself: the query of a poll. [os] is a lower-case token, [ramMb] in MiB; empty means unknown. */
data class DeviceProfile(
    val os: String = "",
    val osVersion: String = "",
    val appVersion: String = "",
    val runtime: String = "",
    val runtimeVersion: String = "",
    val device: String = "",
    val soc: String = "",
    val ramMb: Long? = null,
    val accelerators: Set<String> = emptySet(),
)
