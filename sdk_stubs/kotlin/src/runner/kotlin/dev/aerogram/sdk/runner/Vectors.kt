/**
 * Holds this library to the vectors of a folder, and prints one line of JSON for each file that it can be held to:
 * `{"checked": 12, "failed": ["what differed", …], "file": "buckets.json"}`.
 */
package dev.aerogram.sdk.runner

import dev.aerogram.sdk.BucketRange
import dev.aerogram.sdk.Catalog
import dev.aerogram.sdk.DeviceClass
import dev.aerogram.sdk.DocumentMalformed
import dev.aerogram.sdk.Json
import dev.aerogram.sdk.JsonMalformed
import dev.aerogram.sdk.Members
import dev.aerogram.sdk.PatchRefused
import dev.aerogram.sdk.Role
import dev.aerogram.sdk.SignatureRefused
import dev.aerogram.sdk.applyPatch
import dev.aerogram.sdk.boundary
import dev.aerogram.sdk.bucket
import dev.aerogram.sdk.bucketOf
import dev.aerogram.sdk.canonicalJson
import dev.aerogram.sdk.compareVersions
import dev.aerogram.sdk.decide
import dev.aerogram.sdk.match
import dev.aerogram.sdk.overrideKey
import dev.aerogram.sdk.readDeviceClass
import dev.aerogram.sdk.toHex
import dev.aerogram.sdk.truncatedHash
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.Base64
import kotlin.math.sign

private val FILES: Map<String, Checks.(Map<String, Json>) -> Unit> = linkedMapOf(
    "buckets.json" to Checks::buckets,
    "device_classes.json" to Checks::deviceClasses,
    "decisions.json" to Checks::decisions,
    "catalogs.json" to Checks::catalogs,
    "canonical_json.json" to Checks::canonicalJson,
    "json_texts.json" to Checks::jsonTexts,
    "signatures.json" to Checks::signatures,
    "patches.json" to Checks::patches,
)

fun main(arguments: Array<String>) {
    for ((name, check) in FILES) {
        val checks = Checks().apply { check(Json.parse(File(arguments.single(), name).readBytes()).asObject()) }
        val line = mapOf(
            "file" to Json.Text(name),
            "checked" to Json.Number(checks.checked.toString()),
            "failed" to Json.Array(checks.failed.map { Json.Text(it) }),
        )
        println(canonicalJson(Json.Object(line)).toString(Charsets.US_ASCII))
    }
}

/** Every case is counted, so that a file of which nothing was read does not look like one that passed. */
private class Checks {
    var checked = 0
    val failed = ArrayList<String>()

    private fun equal(what: Any?, expected: Any?, found: Any?) {
        checked++
        if (expected != found) failed += "$what: expected $expected, got $found".replace(Regex("[^ -~]"), "?")
    }

    private inline fun <reified E : Exception> refused(what: Any?, attempt: () -> Unit) {
        val found = try {
            attempt()
            "nothing"
        } catch (error: Exception) {
            if (error is E) E::class.simpleName else error.toString()
        }
        equal(what, E::class.simpleName, found)
    }

    fun buckets(vectors: Map<String, Json>) {
        for (case in vectors.cases("cases")) {
            val (unit, salt) = case.text("unit") to case.text("salt")
            equal("$unit $salt", case.text("hash"), "%012x".format(truncatedHash(unit, salt)))
            equal("$unit $salt", case.long("bucket"), bucket(unit, salt).toLong())
        }
        for (case in vectors.cases("boundaries")) {
            val (index, value) = case.long("index").toInt() to case.long("value")
            equal("boundary $index", value, boundary(index))
            for (off in -1..1) atBoundary(index, value + off)
        }
        for (case in vectors.cases("nimbus")) {
            val inside = bucket(case.text("unit"), case.text("salt")) in range(case.getValue("range"))
            equal(case, case.flag("inside"), inside)
        }
        for (case in vectors.cases("ranges")) {
            equal(case, case.flag("inside"), case.long("bucket").toInt() in range(case.getValue("range")))
        }
        for (case in vectors.cases("overrides")) {
            equal(case, case.text("key"), overrideKey(case.text("salt"), case.text("unit")))
        }
    }

    /** No unit can be found whose hash is exactly a boundary, so hashes are made. */
    private fun atBoundary(index: Int, hash: Long) {
        if (hash < 0 || hash >= 1L shl 48) return
        val below = if (hash < boundary(index)) index - 1 else index
        equal("hash $hash", below.coerceAtMost(9_999), bucketOf(hash))
    }

    fun deviceClasses(vectors: Map<String, Json>) {
        for (case in vectors.cases("compare_versions")) {
            equal(case, case.long("result"), compareVersions(case.text("a"), case.text("b")).sign.toLong())
        }
        val classes = vectors.getValue("classes").asList().map { readDeviceClass(Members(it, "device_class")) }
        matches(vectors.cases("match"), classes)
        matches(vectors.cases("match_without_fallback"), classes.dropLast(1))
    }

    private fun matches(cases: List<Map<String, Json>>, classes: List<DeviceClass>) {
        for (case in cases) {
            val found = match(profileOf(case.getValue("profile").asObject()), classes)
            equal(case, case.getValue("device_class").asTextOrNull(), found?.name)
        }
    }

    fun decisions(vectors: Map<String, Json>) {
        val catalog = Catalog.parse(vectors.getValue("catalog"))
        val profiles = vectors.getValue("profiles").asList().map { profileOf(it.asObject()) }
        for (case in vectors.cases("cases")) {
            val found = decide(
                profiles[case.long("profile").toInt()],
                case.getValue("unit").asTextOrNull(),
                case.text("model"),
                catalog,
                case.getValue("current_version").asLongOrNull(),
            )
            val expected = case.getValue("decision").asObject().mapValues { (_, value) -> plain(value) }
            equal(case, expected, membersOf(found).filterValues { it != null })
            equal(case, case.getValue("manifest").asTextOrNull(), found.manifest?.path)
        }
    }

    private fun plain(value: Json): Any? = if (value is Json.Text) value.value else value.asLong()

    fun catalogs(vectors: Map<String, Json>) {
        for (case in vectors.cases("refused")) {
            refused<DocumentMalformed>(case["name"]) { Catalog.parse(case.getValue("catalog")) }
        }
        for (case in vectors.cases("accepted")) {
            equal(case["name"], "demo", Catalog.parse(case.getValue("catalog")).application)
        }
    }

    fun canonicalJson(vectors: Map<String, Json>) {
        for (case in vectors.cases("cases")) {
            equal(case, case.text("canonical_utf8_hex"), canonicalJson(case.getValue("value")).toHex())
        }
        for (case in vectors.getValue("refused").asList()) refused<JsonMalformed>(case) { canonicalJson(case) }
    }

    fun jsonTexts(vectors: Map<String, Json>) {
        for (case in vectors.cases("refused")) {
            refused<JsonMalformed>(case["name"]) { Json.parse(bytes(case, "utf8_hex")) }
        }
        for (case in vectors.cases("accepted")) {
            equal(case["name"], case.text("canonical_utf8_hex"), canonicalJson(Json.parse(bytes(case, "utf8_hex"))).toHex())
        }
    }

    fun signatures(vectors: Map<String, Json>) {
        for (case in vectors.cases("accepted")) {
            equal(case["name"], case.getValue("envelope").asObject()["signed"], role(vectors, case).verify(case.getValue("envelope")))
        }
        for (case in vectors.cases("refused")) {
            refused<SignatureRefused>(case["name"]) { role(vectors, case).verify(case.getValue("envelope")) }
        }
    }

    private fun role(vectors: Map<String, Json>, case: Map<String, Json>): Role {
        val keyIds = case.getValue("keyids").asList().map { it.asText() }
        return Role.of(vectors.getValue("keys"), keyIds, case.long("threshold").toInt())
    }

    fun patches(vectors: Map<String, Json>) {
        val base = File.createTempFile("aerogram", ".base")
        try {
            base.writeBytes(Base64.getDecoder().decode(vectors.text("base")))
            for (case in vectors.cases("applied")) equal(case["name"], case.text("target"), patched(case, base))
            for (case in vectors.cases("refused")) refused<PatchRefused>(case["name"]) { patched(case, base) }
        } finally {
            base.delete()
        }
    }

    private fun patched(case: Map<String, Json>, base: File): String {
        val patch = File.createTempFile("aerogram", ".patch")
        try {
            patch.writeBytes(Base64.getDecoder().decode(case.text("patch")))
            val made = ByteArrayOutputStream()
            applyPatch(patch, base, made, case.text("target_sha256"), case.long("target_length"))
            return Base64.getEncoder().encodeToString(made.toByteArray())
        } finally {
            patch.delete()
        }
    }
}

private fun range(value: Json): BucketRange {
    val (first, end) = value.asList().map { it.asLong().toInt() }
    return BucketRange(first, end)
}

private fun bytes(case: Map<String, Json>, name: String): ByteArray =
    case.text(name).chunked(2).map { it.toInt(16).toByte() }.toByteArray()

private fun Map<String, Json>.cases(name: String) = getValue(name).asList().map { it.asObject() }

private fun Map<String, Json>.text(name: String) = getValue(name).asText()

private fun Map<String, Json>.long(name: String) = getValue(name).asLong()

private fun Map<String, Json>.flag(name: String) = getValue(name).asFlag()
