package dev.aerogram.sdk.runner

import dev.aerogram.sdk.Json

// The files of cases are ours: a wrong type is a bug, and a ClassCastException says where.
internal fun Json.asObject(): Map<String, Json> = (this as Json.Object).members

internal fun Json.asList(): List<Json> = (this as Json.Array).items

internal fun Json.asText(): String = (this as Json.Text).value

internal fun Json.asTextOrNull(): String? = if (this == Json.Null) null else asText()

internal fun Json.asLong(): Long = checkNotNull((this as Json.Number).toLongOrNull()) { "expected an integer, got $written" }

internal fun Json.asLongOrNull(): Long? = if (this == Json.Null) null else asLong()

internal fun Json.asFlag(): Boolean = (this as Json.Flag).value
