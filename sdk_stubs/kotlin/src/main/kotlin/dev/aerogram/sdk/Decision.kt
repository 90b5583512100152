package dev.aerogram.sdk

/** Why a device gets what it gets: the closed list of the protocol. */
enum class Reason(val wire: String) {
    CURRENT_RELEASE("current_release"),
    ROLLOUT_TREATMENT("rollout_treatment"),
    ROLLOUT_CONTROL("rollout_control"),
    EXPERIMENT_ARM("experiment_arm"),
    HOLDBACK("holdback"),
    OVERRIDE("override"),
    HALTED("halted"),
    KILL_SWITCH("kill_switch"),
    USE_EMBEDDED("use_embedded"),
    NO_COMPATIBLE_VARIANT("no_compatible_variant"),
    FLOOR("floor"),
    NO_UNIT("no_unit"),
    UNKNOWN_MODEL("unknown_model"),
}

/** What a poll would answer. [manifest] null changes nothing on the device. */
data class Decision(
    val reason: Reason,
    val version: Long? = null,
    val variant: String? = null,
    val experiment: String? = null,
    val phase: Long? = null,
    val arm: String? = null,
    val deviceClass: String? = null,
    val manifest: Reference? = null,
)

/**
 * Which manifest of [catalog] is meant for this device, and why. Total on every parsed catalog; tells nobody.
 *
 * The first of these that holds decides:
 *
 * | when                                           | serves                      | reason                           |
 * |------------------------------------------------|-----------------------------|----------------------------------|
 * | the channel has no such model                  | nothing                     | UNKNOWN_MODEL                    |
 * | the kill switch is on                          | its `use_embedded` manifest | KILL_SWITCH                      |
 * | there is no unit                               | current, or nothing         | NO_UNIT                          |
 * | the unit is pinned                             | the version pinned          | OVERRIDE                         |
 * | its bucket lies in the holdback [1]            | the version held back       | HOLDBACK                         |
 * | an experiment's layer and an arm hold it [2]   | the arm's version           | see `reasonOf`                   |
 * | … halted, and the device runs it not yet [3]   | the control's version       | HALTED                           |
 * | otherwise                                      | the current release         | CURRENT_RELEASE, or USE_EMBEDDED |
 *
 * (1) And the version has a variant for the device. (2) And every arm has one. (3) In an arm that is not the control.
 * Afterwards a floor that the device would skip is served first (FLOOR), and a version without a variant for the device
 * gives NO_COMPATIBLE_VARIANT and no manifest.
 *
 * @param unit the installation's random id, null if there is none
 * @param currentVersion the version of the model that the device runs now, null if unknown
 */
fun decide(
    profile: DeviceProfile,
    unit: String?,
    modelName: String,
    catalog: Catalog,
    currentVersion: Long? = null,
): Decision {
    val model = catalog.models[modelName] ?: return Decision(Reason.UNKNOWN_MODEL)
    if (model.killSwitch != null) return Decision(Reason.KILL_SWITCH, manifest = model.killSwitch)
    return Request(profile, match(profile, catalog.deviceClasses), model, currentVersion).decision(unit)
}

/** The hex digest under which a version pinned for [unit] is published. */
internal fun overrideKey(salt: String, unit: String): String = sha256("$salt:$unit").toHex()

/** [version] null: the model embedded in the app, or nothing. */
private class Choice(
    val reason: Reason,
    val version: Long?,
    val experiment: Experiment? = null,
    val arm: Arm? = null,
)

/** One device asking for one model. */
private class Request(
    val profile: DeviceProfile,
    val deviceClass: DeviceClass?,
    val model: CatalogModel,
    val currentVersion: Long?,
) {
    fun decision(unit: String?): Decision = served(choice(unit))

    private fun choice(unit: String?): Choice {
        if (unit == null) return Choice(Reason.NO_UNIT, model.current.takeIf { model.noUnit == NoUnit.CURRENT })
        return pinned(unit)
            ?: heldBack(unit)
            ?: model.experiments.firstNotNullOfOrNull { inExperiment(it, unit) }
            ?: Choice(if (model.current == null) Reason.USE_EMBEDDED else Reason.CURRENT_RELEASE, model.current)
    }

    private fun pinned(unit: String): Choice? {
        val overrides = model.overrides
        if (overrides.units.isEmpty()) return null
        return overrides.units[overrideKey(overrides.salt, unit)]?.let { Choice(Reason.OVERRIDE, it) }
    }

    private fun heldBack(unit: String): Choice? = model.holdback
        ?.takeIf { bucket(unit, it.salt) in it.range && variantOf(it.version) != null }
        ?.let { Choice(Reason.HOLDBACK, it.version) }

    /** Null if the experiment is not for this unit, or not for this device. */
    private fun inExperiment(experiment: Experiment, unit: String): Choice? {
        if (bucket(unit, experiment.layerSalt) !in experiment.layerRange) return null
        if (experiment.arms.any { it.version != null && variantOf(it.version) == null }) return null
        val position = bucket(unit, experiment.armSalt)
        val arm = experiment.arms.firstOrNull { arm -> arm.ranges.any { position in it } } ?: return null
        if (isHalted(experiment) && !arm.control && !runsAlready(arm)) {
            val control = experiment.arms.firstOrNull { it.control }
            val version = if (control == null) model.current else control.version
            return Choice(Reason.HALTED, version, experiment, arm)
        }
        return Choice(reasonOf(experiment, arm), arm.version, experiment, arm)
    }

    /** For everybody, or for the device's class. */
    private fun isHalted(experiment: Experiment): Boolean =
        experiment.halted || (deviceClass != null && deviceClass.name in experiment.haltedClasses)

    private fun runsAlready(arm: Arm): Boolean = currentVersion != null && currentVersion == arm.version

    private fun reasonOf(experiment: Experiment, arm: Arm): Reason = when (experiment.kind) {
        ExperimentKind.ROLLOUT -> if (arm.control) Reason.ROLLOUT_CONTROL else Reason.ROLLOUT_TREATMENT
        ExperimentKind.HOLDBACK -> if (arm.control) Reason.HOLDBACK else Reason.EXPERIMENT_ARM
        ExperimentKind.AB, ExperimentKind.AA -> Reason.EXPERIMENT_ARM
    }

    private fun served(choice: Choice): Decision {
        val decision = Decision(
            reason = choice.reason,
            experiment = choice.experiment?.slug,
            phase = choice.experiment?.phase,
            arm = choice.arm?.name,
            deviceClass = deviceClass?.name,
        )
        val chosen = choice.version ?: return decision
        val floor = floorBefore(chosen)
        val version = floor ?: chosen
        val variant = variantOf(version)
            ?: return decision.copy(reason = Reason.NO_COMPATIBLE_VARIANT, version = version)
        return decision.copy(
            reason = if (floor == null) choice.reason else Reason.FLOOR,
            version = version,
            variant = variant.name,
            manifest = variant.manifest,
        )
    }

    /** The lowest floor above what the device runs and below [version] that it can run: others would strand it. */
    private fun floorBefore(version: Long): Long? {
        val current = currentVersion ?: return null
        return model.floors.sorted().firstOrNull { it > current && it < version && variantOf(it) != null }
    }

    /** The first of the class's preferred variants that exists and runs on the device. */
    private fun variantOf(version: Long): Variant? {
        val built = model.versions.getValue(version).associateBy { it.name }
        return deviceClass?.variants?.firstNotNullOfOrNull { name -> built[name]?.takeIf(::runs) }
    }

    /** A runtime that the device does not name is vouched for by its class; a version that it does not name is not. */
    private fun runs(variant: Variant): Boolean {
        if (profile.runtime.isNotEmpty() && profile.runtime != variant.runtime) return false
        val least = variant.minRuntimeVersion
        if (least.isEmpty()) return true
        return profile.runtimeVersion.isNotEmpty() && compareVersions(profile.runtimeVersion, least) >= 0
    }
}
