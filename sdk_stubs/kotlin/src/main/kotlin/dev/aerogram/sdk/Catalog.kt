package dev.aerogram.sdk

/** A signed manifest: path below the application's folder, hex digest and length in bytes of the whole file. */
data class Reference(val path: String, val sha256: String, val length: Long)

/** A model version built for one format and precision. */
data class Variant(val name: String, val runtime: String, val minRuntimeVersion: String, val manifest: Reference)

/** [version] null is the model embedded in the app. */
data class Arm(val name: String, val version: Long?, val control: Boolean, val ranges: List<BucketRange>)

enum class ExperimentKind { ROLLOUT, AB, AA, HOLDBACK }

data class Experiment(
    val slug: String,
    val kind: ExperimentKind,
    val halted: Boolean,
    val phase: Long,
    val layerSalt: String,
    val layerRange: BucketRange,
    val armSalt: String,
    val arms: List<Arm>,
    val haltedClasses: Set<String>,
)

/** Units whose bucket under [salt] lies in [range] stay on [version]. */
data class Holdback(val salt: String, val range: BucketRange, val version: Long)

/** Versions pinned for single units, by SHA-256 of salt, colon and unit. */
data class Overrides(val salt: String = "", val units: Map<String, Long> = emptyMap())

/** What a device without a unit gets. */
enum class NoUnit { CURRENT, NONE }

/** What the channel serves of one model. [current] null: the app keeps its embedded model. */
data class CatalogModel(
    val current: Long?,
    val versions: Map<Long, List<Variant>>,
    val killSwitch: Reference?,
    val noUnit: NoUnit,
    val floors: List<Long>,
    val holdback: Holdback?,
    val overrides: Overrides,
    val experiments: List<Experiment>,
)

/** Buckets from [first] on, without [end]. */
data class BucketRange(val first: Int, val end: Int) {
    operator fun contains(position: Int): Boolean = position in first until end
}

/**
 * The catalog of a channel (protocol, section 3), parsed and checked, not trusted by itself: verify it as a TUF target.
 *
 * Whatever [decide] could stumble over, or would have to guess, is refused: unknown kinds and conditions, versions that
 * are not listed, ranges that overlap. Members that this version does not know are ignored elsewhere.
 */
data class Catalog(
    val application: String,
    val channel: String,
    val pollAfterSeconds: Long,
    val deviceClasses: List<DeviceClass>,
    val models: Map<String, CatalogModel>,
) {
    companion object {
        /** @throws DocumentMalformed with the path of what is wrong, what was expected and what was got */
        fun parse(document: Json): Catalog = readCatalog(Members(document, "catalog"))
    }
}
