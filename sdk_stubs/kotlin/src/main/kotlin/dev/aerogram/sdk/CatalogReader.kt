package dev.aerogram.sdk

private val NAME = Regex("[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
private val SALT = Regex("[ !#-\\[\\]-~]{1,200}")
private val SHA256 = Regex("[0-9a-f]{64}")
private val PATH = Regex("(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")
private val VERSION = Regex("[1-9][0-9]{0,15}")
private val CONDITIONS = setOf(
    "os", "os_version_min", "os_version_max", "app_version_min", "app_version_max",
    "runtime", "runtime_version_min", "runtime_version_max", "ram_mb_min", "ram_mb_max",
    "soc", "accelerators_all", "device_include", "device_exclude",
)

internal fun readCatalog(members: Members): Catalog {
    members.oneOf("_type", mapOf("aerogram-catalog" to Unit))
    members.oneOf("spec_version", mapOf("1" to Unit))
    val classes = members.objects("device_classes").map(::readDeviceClass)
    if (classes.distinctBy { it.name }.size < classes.size) throw members.wrong("device_classes", "unique names")
    return Catalog(
        application = members.text("application", NAME),
        channel = members.text("channel", NAME),
        pollAfterSeconds = members.integer("poll_after_seconds", least = 1),
        deviceClasses = classes,
        models = members.named("models", NAME) { inner, name -> readModel(inner.inner(name)) },
    )
}

internal fun readDeviceClass(members: Members) = DeviceClass(
    name = members.text("name"),
    selector = readSelector(members.inner("selector")),
    variants = members.texts("variants"),
    delegateOrder = members.texts("delegate_order"),
)

/** A condition that this version does not know would widen the class if it were ignored. */
private fun readSelector(members: Members): Selector {
    members.names.firstOrNull { it !in CONDITIONS }?.let { throw members.wrong(it, "a condition this version knows") }
    return Selector(
        os = members.texts("os"),
        osVersion = versions(members, "os_version"),
        appVersion = versions(members, "app_version"),
        runtime = members.texts("runtime"),
        runtimeVersion = versions(members, "runtime_version"),
        ramMb = Bounds(members.integerOrNull("ram_mb_min"), members.integerOrNull("ram_mb_max")),
        soc = members.texts("soc"),
        acceleratorsAll = members.texts("accelerators_all"),
        deviceInclude = members.texts("device_include"),
        deviceExclude = members.texts("device_exclude"),
    )
}

private fun versions(members: Members, fact: String) =
    Bounds(members.textOrNull("${fact}_min"), members.textOrNull("${fact}_max"))

private fun readModel(members: Members): CatalogModel {
    val model = CatalogModel(
        current = members.integerOrNull("current", least = 1),
        versions = members.named("versions", VERSION) { inner, number ->
            inner.inner(number).objects("variants").map(::readVariant)
        }.mapKeys { it.key.toLong() },
        killSwitch = members.innerOrNull("kill_switch")?.let { readReference(it.inner("manifest")) },
        noUnit = members.oneOf("no_unit", mapOf("current" to NoUnit.CURRENT, "none" to NoUnit.NONE)),
        floors = members.integers("floors"),
        holdback = members.innerOrNull("holdback")?.let(::readHoldback),
        overrides = members.innerOrNull("overrides")?.let(::readOverrides) ?: Overrides(),
        experiments = members.objects("experiments").map(::readExperiment),
    )
    refuseUnlisted(members, model)
    model.experiments.groupBy({ it.layerSalt }, { it.layerRange }).values.forEach {
        refuseOverlap(members, "experiments", it)
    }
    return model
}

private fun readVariant(members: Members) = Variant(
    name = members.text("name", NAME),
    runtime = members.text("runtime", NAME),
    minRuntimeVersion = members.text("min_runtime_version", default = ""),
    manifest = readReference(members.inner("manifest")),
)

private fun readReference(members: Members) =
    Reference(members.text("path", PATH), members.text("sha256", SHA256), members.integer("length"))

private fun readHoldback(members: Members) =
    Holdback(members.text("salt", SALT), range(members, "range"), members.integer("version", least = 1))

private fun readOverrides(members: Members): Overrides {
    if (members.innerOrNull("units")?.names.isNullOrEmpty()) return Overrides()
    val units = members.named("units", SHA256) { inner, key -> inner.integer(key, least = 1) }
    return Overrides(members.text("salt", SALT), units)
}

private val KINDS = ExperimentKind.entries.associateBy { it.name.lowercase() }
private val STATES = mapOf("running" to false, "halted" to true)

private fun readExperiment(members: Members): Experiment {
    val layer = members.inner("layer")
    val arms = members.objects("arms").map(::readArm)
    if (arms.count { it.control } > 1) throw members.wrong("arms", "at most one control")
    refuseOverlap(members, "arms", arms.flatMap { it.ranges })
    return Experiment(
        slug = members.text("slug", NAME),
        kind = members.oneOf("kind", KINDS),
        halted = members.oneOf("state", STATES),
        phase = members.integer("phase", least = 1),
        layerSalt = layer.text("salt", SALT),
        layerRange = range(layer, "range"),
        armSalt = members.text("arm_salt", SALT),
        arms = arms,
        haltedClasses = members.texts("halted_classes").toSet(),
    )
}

private fun readArm(members: Members) = Arm(
    name = members.text("name", NAME),
    version = members.integerOrNull("version", least = 1),
    control = members.flag("control"),
    ranges = members.items("ranges").map { toRange(members, "ranges", it) },
)

private fun range(members: Members, name: String): BucketRange = toRange(members, name, members[name])

private fun toRange(members: Members, name: String, value: Json?): BucketRange {
    val ends = (value as? Json.Array)?.items.orEmpty().map { (it as? Json.Number)?.toLongOrNull() ?: -1 }
    if (ends.size != 2 || ends[0] < 0 || ends[0] > ends[1] || ends[1] > BUCKETS) {
        throw members.wrong(name, "bucket ranges [first, end] with 0 <= first <= end <= $BUCKETS")
    }
    return BucketRange(ends[0].toInt(), ends[1].toInt())
}

private fun refuseUnlisted(members: Members, model: CatalogModel) {
    val named = model.floors + model.overrides.units.values + model.experiments.flatMap { it.arms }.mapNotNull { it.version } +
        listOfNotNull(model.current, model.holdback?.version)
    named.firstOrNull { it !in model.versions }?.let {
        throw members.wrong("versions", "version $it, which something names, among them")
    }
}

private fun refuseOverlap(members: Members, name: String, ranges: List<BucketRange>) {
    val ordered = ranges.filter { it.first < it.end }.sortedBy { it.first }
    ordered.zipWithNext { before, after ->
        if (after.first < before.end) {
            throw members.wrong(name, "ranges that do not overlap, and bucket ${after.first} in one")
        }
    }
}
