package dev.aerogram.sdk

import java.nio.ByteBuffer
import java.nio.CharBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

/**
 * A JSON value, read strictly: RFC 8259, UTF-8, no name twice in an object, nothing after the value.
 *
 * Android has `org.json`, which lets through much that another parser reads differently; what is signed must mean the
 * same to everybody.
 */
sealed interface Json {
    /** Members in the document's order. */
    data class Object(val members: Map<String, Json>) : Json

    data class Array(val items: List<Json>) : Json

    data class Text(val value: String) : Json

    /** As written; [toLongOrNull] where an integer is meant. */
    data class Number(val written: String) : Json {
        fun toLongOrNull(): Long? = written.toLongOrNull()
    }

    data class Flag(val value: Boolean) : Json

    data object Null : Json

    companion object {
        /** @throws JsonMalformed with the offset of what is wrong */
        fun parse(bytes: ByteArray): Json = JsonReader(decodeUtf8(bytes)).document()

        /** @throws JsonMalformed with the offset of what is wrong */
        fun parse(text: String): Json = JsonReader(text).document()
    }
}

class JsonMalformed(message: String) : IllegalArgumentException(message)

private fun decodeUtf8(bytes: ByteArray): String {
    val decoder = Charsets.UTF_8.newDecoder()
        .onMalformedInput(CodingErrorAction.REPORT)
        .onUnmappableCharacter(CodingErrorAction.REPORT)
    return try {
        decoder.decode(ByteBuffer.wrap(bytes)).toString()
    } catch (error: CharacterCodingException) {
        throw JsonMalformed("JSON: expected UTF-8, got $error")
    }
}

private class JsonReader(private val text: String) {
    private var at = 0

    fun document(): Json {
        skipSpace()
        val value = value(0)
        skipSpace()
        if (at != text.length) throw wrong("the end")
        return value
    }

    private fun value(depth: Int): Json = when (peek()) {
        '{' -> objectAt(depth)
        '[' -> arrayAt(depth)
        '"' -> Json.Text(string())
        't' -> word("true", Json.Flag(true))
        'f' -> word("false", Json.Flag(false))
        'n' -> word("null", Json.Null)
        else -> number()
    }

    private fun objectAt(depth: Int): Json {
        val members = LinkedHashMap<String, Json>()
        list('}', depth) {
            if (peek() != '"') throw wrong("a name")
            val name = string()
            skipSpace()
            take(':')
            skipSpace()
            if (members.put(name, value(depth + 1)) != null) throw wrong("names that differ")
        }
        return Json.Object(members)
    }

    private fun arrayAt(depth: Int): Json {
        val items = ArrayList<Json>()
        list(']', depth) { items += value(depth + 1) }
        return Json.Array(items)
    }

    /** What stands between a bracket and [end], separated by commas. */
    private inline fun list(end: Char, depth: Int, element: () -> Unit) {
        if (depth == DEEPEST) throw wrong("at most $DEEPEST levels")
        at++
        skipSpace()
        if (peek() == end) {
            at++
            return
        }
        while (true) {
            element()
            skipSpace()
            if (peek() == end) break
            take(',')
            skipSpace()
        }
        at++
    }

    private fun string(): String {
        take('"')
        val result = StringBuilder()
        while (true) {
            val char = next()
            when {
                char == '"' -> return wholeUnicode(result)
                char == '\\' -> result.append(escaped())
                char < ' ' -> throw wrong("no control character")
                else -> result.append(char)
            }
        }
    }

    private fun escaped(): Char = when (val char = next()) {
        '"', '\\', '/' -> char
        'b' -> '\b'
        'f' -> '\u000c'
        'n' -> '\n'
        'r' -> '\r'
        't' -> '\t'
        'u' -> {
            val digits = text.substring(at, minOf(at + 4, text.length))
            if (!HEX4.matches(digits)) throw wrong("four hex digits")
            at += 4
            digits.toInt(16).toChar()
        }
        else -> throw wrong("an escape")
    }

    /** Half a surrogate pair is no text: it has no UTF-8 to be signed. */
    private fun wholeUnicode(read: StringBuilder): String {
        if (!Charsets.UTF_8.newEncoder().canEncode(CharBuffer.wrap(read))) throw wrong("whole surrogate pairs")
        return read.toString()
    }

    private fun number(): Json {
        val found = NUMBER.matchAt(text, at) ?: throw wrong("a value")
        at = found.range.last + 1
        return Json.Number(found.value)
    }

    private fun <T> word(expected: String, value: T): T {
        if (!text.startsWith(expected, at)) throw wrong("a value")
        at += expected.length
        return value
    }

    private fun take(expected: Char) {
        if (next() != expected) throw wrong("'$expected'")
    }

    private fun next(): Char = peek().also { at++ }

    private fun peek(): Char = if (at < text.length) text[at] else throw wrong("more")

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\n\r") at++
    }

    private fun wrong(expected: String) = JsonMalformed("JSON at $at: expected $expected, got ${got()}")

    private fun got() = if (at < text.length) "'${text.substring(at, minOf(at + 20, text.length))}'" else "its end"

    private companion object {
        const val DEEPEST = 64
        val HEX4 = Regex("[0-9a-fA-F]{4}")
        val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?")
    }
}
