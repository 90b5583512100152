package dev.aerogram.sdk

import java.security.MessageDigest
import kotlin.math.floor

/** Buckets of a salt; positions are 0 until this. */
const val BUCKETS = 10_000

private const val HASH_BYTES = 6
private const val LARGEST_HASH = ((1L shl 48) - 1).toDouble()

/**
 * Which bucket, 0..9999, a unit falls into under a salt.
 *
 * Mozilla Nimbus' function: the first 48 bits of SHA-256 over the JSON text `["unit","salt"]`, compared with boundaries
 * that are computed in double precision (application-services: components/nimbus/src/sampling.rs). Both texts are of
 * printable ASCII without quote and backslash, so that their JSON is the same in every language.
 */
fun bucket(unit: String, salt: String): Int = bucketOf(truncatedHash(unit, salt))

/** The bucket of a hash of 48 bits. The last hash of all belongs to the last bucket. */
internal fun bucketOf(hash: Long): Int {
    // The quotient is at most one bucket off; the boundaries decide.
    var position = (hash * BUCKETS shr 48).toInt().coerceAtMost(BUCKETS - 1)
    while (position + 1 < BUCKETS && boundary(position + 1) <= hash) position++
    while (boundary(position) > hash) position--
    return position
}

/** The first 48 bits of SHA-256 over the JSON text. */
internal fun truncatedHash(unit: String, salt: String): Long =
    sha256("""["$unit","$salt"]""").take(HASH_BYTES).fold(0L) { hash, byte -> (hash shl 8) or (byte.toLong() and 0xff) }

/** The least hash of a bucket, 0..10 000; of a hundred of them exact integers would give another one. */
internal fun boundary(index: Int): Long = floor(index.toDouble() / BUCKETS * LARGEST_HASH).toLong()

internal fun sha256(text: String): ByteArray =
    MessageDigest.getInstance("SHA-256").digest(text.toByteArray(Charsets.UTF_8))

internal fun ByteArray.toHex(): String = joinToString("") { "%02x".format(it) }
