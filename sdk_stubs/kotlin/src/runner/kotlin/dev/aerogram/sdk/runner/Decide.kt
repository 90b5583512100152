/** The runner of `sdk_stubs/README.md`: what this library decides for the devices of a file, one line of JSON each. */
package dev.aerogram.sdk.runner

import dev.aerogram.sdk.Catalog
import dev.aerogram.sdk.Decision
import dev.aerogram.sdk.DeviceProfile
import dev.aerogram.sdk.Json
import dev.aerogram.sdk.canonicalJson
import dev.aerogram.sdk.decide
import java.io.File
import java.io.PrintStream

fun main(arguments: Array<String>) {
    val document = Json.parse(File(arguments.single()).readBytes()).asObject()
    val catalogs = document.getValue("catalogs").asList().map(Catalog::parse)
    val out = PrintStream(System.out.buffered(), false, "UTF-8")
    for (device in document.getValue("devices").asList().map { it.asObject() }) {
        val decision = decide(
            profile = profileOf(device.getValue("profile").asObject()),
            unit = device.getValue("unit").asTextOrNull(),
            modelName = device.getValue("model").asText(),
            catalog = catalogs[device.getValue("catalog").asLong().toInt()],
            currentVersion = device.getValue("current").asLongOrNull(),
        )
        out.println(line(decision))
    }
    out.flush()
}

internal fun profileOf(members: Map<String, Json>): DeviceProfile {
    fun text(name: String) = members[name]?.asText().orEmpty()
    return DeviceProfile(
        os = text("os"),
        osVersion = text("os_version"),
        appVersion = text("app_version"),
        runtime = text("runtime"),
        runtimeVersion = text("runtime_version"),
        device = text("device"),
        soc = text("soc"),
        ramMb = members["ram_mb"]?.asLongOrNull(),
        accelerators = members["accelerators"]?.asList().orEmpty().map { it.asText() }.toSet(),
    )
}

private fun line(decision: Decision): String {
    val members = membersOf(decision) + ("manifest" to decision.manifest?.sha256)
    return canonicalJson(Json.Object(members.mapValues { toJson(it.value) })).toString(Charsets.UTF_8)
}

private fun toJson(value: Any?): Json = when (value) {
    null -> Json.Null
    is Long -> Json.Number(value.toString())
    else -> Json.Text(value.toString())
}

internal fun membersOf(decision: Decision): Map<String, Any?> = mapOf(
    "reason" to decision.reason.wire,
    "version" to decision.version,
    "variant" to decision.variant,
    "experiment" to decision.experiment,
    "phase" to decision.phase,
    "arm" to decision.arm,
    "device_class" to decision.deviceClass,
)
