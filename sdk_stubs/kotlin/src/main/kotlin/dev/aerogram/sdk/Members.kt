package dev.aerogram.sdk

/** A document does not have the form it must have. The message says where, what was expected and what was got. */
class DocumentMalformed(message: String) : IllegalArgumentException(message)

/** The members of one JSON object, and where it stands. Every reader throws [DocumentMalformed]. */
internal class Members(document: Json?, private val at: String) {
    private val members: Map<String, Json> = (document as? Json.Object)?.members
        ?: throw DocumentMalformed("$at: expected an object, got ${brief(document)}")

    val names: Set<String> get() = members.keys

    operator fun get(name: String): Json? = members[name]

    fun wrong(name: String, expected: String) =
        DocumentMalformed("$at.$name: expected $expected, got ${brief(members[name])}")

    fun text(name: String, pattern: Regex? = null, default: String? = null): String {
        val value = if (name in members) (members[name] as? Json.Text)?.value else default
        if (value == null || pattern?.matches(value) == false) {
            throw wrong(name, pattern?.let { "a string like $it" } ?: "a string")
        }
        return value
    }

    fun textOrNull(name: String): String? = if (has(name)) text(name) else null

    fun <T> oneOf(name: String, allowed: Map<String, T>): T {
        val value = (members[name] as? Json.Text)?.value
        if (value == null || value !in allowed) throw wrong(name, "one of ${allowed.keys.joinToString()}")
        return allowed.getValue(value)
    }

    fun integer(name: String, least: Long = 0): Long {
        val value = (members[name] as? Json.Number)?.toLongOrNull()
        if (value == null || value !in least..LARGEST_INTEGER) throw wrong(name, "an integer of $least or more")
        return value
    }

    fun integerOrNull(name: String, least: Long = 0): Long? = if (has(name)) integer(name, least) else null

    fun flag(name: String): Boolean =
        if (name in members) (members[name] as? Json.Flag)?.value ?: throw wrong(name, "true or false") else false

    /** Of a list; empty if there is none. */
    fun items(name: String): List<Json> =
        if (name in members) (members[name] as? Json.Array)?.items ?: throw wrong(name, "a list") else emptyList()

    fun texts(name: String): List<String> =
        items(name).map { (it as? Json.Text)?.value ?: throw wrong(name, "a list of strings") }

    fun integers(name: String): List<Long> =
        items(name).map { (it as? Json.Number)?.toLongOrNull() ?: throw wrong(name, "a list of integers") }

    fun inner(name: String) = Members(members[name], "$at.$name")

    fun innerOrNull(name: String): Members? = if (has(name)) inner(name) else null

    fun objects(name: String): List<Members> =
        items(name).mapIndexed { index, item -> Members(item, "$at.$name[$index]") }

    /** Each member of the object [name], read by its name. */
    fun <T> named(name: String, pattern: Regex, read: (Members, String) -> T): Map<String, T> {
        val inner = inner(name)
        if (!inner.names.all(pattern::matches)) throw wrong(name, "names like $pattern")
        return inner.names.associateWith { read(inner, it) }
    }

    private fun has(name: String) = members[name].let { it != null && it != Json.Null }

    private companion object {
        const val LARGEST_INTEGER = (1L shl 53) - 1

        fun brief(value: Json?): String = value?.toString()?.take(80) ?: "nothing"
    }
}
