package dev.aerogram.sdk

private const val MOST_PARTS = 8
private const val MOST_DIGITS = 18

/**
 * Negative, 0 or positive as dotted version [a] is older than, equal to or newer than [b]. Missing parts count as 0, and a
 * part's digits end at its first other character: `14.0.3-beta` is `14.0.3`.
 */
fun compareVersions(a: String, b: String): Int {
    val (left, right) = versionParts(a) to versionParts(b)
    for (index in 0 until MOST_PARTS) {
        val order = left.getOrElse(index) { 0L }.compareTo(right.getOrElse(index) { 0L })
        if (order != 0) return order
    }
    return 0
}

private fun versionParts(version: String): List<Long> =
    version.split('.').take(MOST_PARTS).map { part ->
        part.take(MOST_DIGITS).takeWhile { it in '0'..'9' }.toLongOrNull() ?: 0L
    }
