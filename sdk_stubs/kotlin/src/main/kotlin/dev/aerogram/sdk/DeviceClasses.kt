package dev.aerogram.sdk

/** What a bound allows, both ends inclusive; null is no bound. */
data class Bounds<T : Any>(val least: T? = null, val most: T? = null) {
    val isEmpty: Boolean get() = least == null && most == null
}

/**
 * Conditions on a profile, all of which must hold. Names are compared exactly; the published list of [soc] has every
 * spelling of a chip.
 *
 * | member                               | holds when                                                       |
 * |--------------------------------------|------------------------------------------------------------------|
 * | [os], [runtime], [soc], [deviceInclude] | empty, or the profile's value is one of them                  |
 * | [osVersion] … [ramMb]                | no bound, or the profile states the value and it is within       |
 * | [acceleratorsAll]                    | the profile has every one of them                                |
 * | [deviceExclude]                      | the profile's device is none of them                             |
 */
data class Selector(
    val os: List<String> = emptyList(),
    val osVersion: Bounds<String> = Bounds(),
    val appVersion: Bounds<String> = Bounds(),
    val runtime: List<String> = emptyList(),
    val runtimeVersion: Bounds<String> = Bounds(),
    val ramMb: Bounds<Long> = Bounds(),
    val soc: List<String> = emptyList(),
    val acceleratorsAll: List<String> = emptyList(),
    val deviceInclude: List<String> = emptyList(),
    val deviceExclude: List<String> = emptyList(),
) {
    fun accepts(profile: DeviceProfile): Boolean =
        profile.os.isOneOf(os) &&
            profile.osVersion.isWithin(osVersion) &&
            profile.appVersion.isWithin(appVersion) &&
            profile.runtime.isOneOf(runtime) &&
            profile.runtimeVersion.isWithin(runtimeVersion) &&
            profile.ramMb.isWithin(ramMb) &&
            profile.soc.isOneOf(soc) &&
            profile.accelerators.containsAll(acceleratorsAll) &&
            profile.device.isOneOf(deviceInclude) &&
            profile.device !in deviceExclude
}

/** [variants] in order of preference; [delegateOrder] is what the runtime should try first. */
data class DeviceClass(
    val name: String,
    val selector: Selector,
    val variants: List<String>,
    val delegateOrder: List<String> = emptyList(),
)

/** The first class that accepts the device; an empty selector accepts every one. */
fun match(profile: DeviceProfile, classes: List<DeviceClass>): DeviceClass? =
    classes.firstOrNull { it.selector.accepts(profile) }

private fun String.isOneOf(allowed: List<String>) = allowed.isEmpty() || this in allowed

private fun String.isWithin(bounds: Bounds<String>): Boolean {
    if (bounds.isEmpty) return true
    val (least, most) = bounds
    return isNotEmpty() &&
        (least == null || compareVersions(this, least) >= 0) &&
        (most == null || compareVersions(this, most) <= 0)
}

private fun Long?.isWithin(bounds: Bounds<Long>): Boolean {
    if (bounds.isEmpty) return true
    val (least, most) = bounds
    return this != null && (least == null || this >= least) && (most == null || this <= most)
}
