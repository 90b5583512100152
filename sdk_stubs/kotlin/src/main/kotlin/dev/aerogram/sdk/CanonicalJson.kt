package dev.aerogram.sdk

/**
 * OLPC canonical JSON, the bytes that a signature is made over: members sorted by code point, no white space, nothing
 * escaped but quote and backslash.
 *
 * @throws JsonMalformed for numbers other than integers within ±(2^53 − 1): not every parser keeps them
 */
fun canonicalJson(value: Json): ByteArray =
    StringBuilder().also { it.appendCanonical(value) }.toString().toByteArray(Charsets.UTF_8)

private const val LARGEST_INTEGER = (1L shl 53) - 1

private fun StringBuilder.appendCanonical(value: Json) {
    when (value) {
        is Json.Object -> appendObject(value)
        is Json.Array -> appendListed(value.items, '[', ']') { appendCanonical(it) }
        is Json.Text -> appendText(value.value)
        is Json.Number -> append(integer(value))
        is Json.Flag -> append(value.value)
        Json.Null -> append("null")
    }
}

private fun StringBuilder.appendObject(value: Json.Object) {
    val sorted = value.members.entries.sortedWith { a, b -> compareByCodePoint(a.key, b.key) }
    appendListed(sorted, '{', '}') { (name, member) ->
        appendText(name)
        append(':')
        appendCanonical(member)
    }
}

private fun <T> StringBuilder.appendListed(items: List<T>, begin: Char, end: Char, element: (T) -> Unit) {
    append(begin)
    items.forEachIndexed { index, item ->
        if (index > 0) append(',')
        element(item)
    }
    append(end)
}

private fun StringBuilder.appendText(text: String) {
    append('"').append(text.replace("\\", "\\\\").replace("\"", "\\\"")).append('"')
}

private fun integer(number: Json.Number): Long {
    val value = number.toLongOrNull()
    if (value == null || value !in -LARGEST_INTEGER..LARGEST_INTEGER) {
        throw JsonMalformed("number: expected an integer of at most 53 bits, got ${number.written}")
    }
    return value
}

/** `String.compareTo` goes by UTF-16 units, which sort characters beyond U+FFFF before some below. */
private fun compareByCodePoint(a: String, b: String): Int {
    val (left, right) = a.codePoints().toArray() to b.codePoints().toArray()
    val different = left.indices.firstOrNull { it >= right.size || left[it] != right[it] } ?: return left.size - right.size
    return if (different >= right.size) 1 else left[different].compareTo(right[different])
}
