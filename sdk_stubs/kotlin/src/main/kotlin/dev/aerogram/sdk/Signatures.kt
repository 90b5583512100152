package dev.aerogram.sdk

import java.math.BigInteger
import java.security.GeneralSecurityException
import java.security.KeyFactory
import java.security.PublicKey
import java.security.Signature
import java.security.interfaces.ECPublicKey
import java.security.spec.X509EncodedKeySpec
import java.util.Base64

/** Nobody whose word counts has signed this, or too few of them. */
class SignatureRefused(message: String) : Exception(message)

/**
 * Keys and threshold of a role, such as `releases-production`, as TUF metadata lists them.
 *
 * Only ECDSA over P-256 with SHA-256 is known, which every Android has; keys of another kind count for nothing.
 *
 * @property keys by key id
 * @property threshold how many of them must sign
 */
class Role(private val keys: Map<String, PublicKey>, private val threshold: Int) {
    init {
        require(threshold > 0) { "threshold: expected 1 or more, got $threshold" }
    }

    /**
     * The `signed` part of an envelope `{"signed": {…}, "signatures": [{"keyid", "sig"}, …]}`, once enough of the
     * role's keys have signed its canonical JSON. A key counts once, however often it is listed.
     *
     * This says who signed, and nothing of whether it is current, or what was asked for: see the client rules.
     *
     * @throws SignatureRefused for fewer than the threshold
     * @throws DocumentMalformed, JsonMalformed for what is no envelope, or has no canonical form
     */
    fun verify(envelope: Json): Json.Object {
        val members = Members(envelope, "envelope")
        val signed = members["signed"] as? Json.Object ?: throw members.wrong("signed", "an object")
        val listed = members.objects("signatures")
        if (listed.size > MOST_SIGNATURES) throw members.wrong("signatures", "at most $MOST_SIGNATURES")
        val bytes = canonicalJson(signed)
        val good = listed.map { it.text("keyid") to it.text("sig") }
            .distinctBy { (keyId, _) -> keyId }
            .count { (keyId, signature) -> keys[keyId]?.hasSigned(bytes, signature) ?: false }
        if (good < threshold) throw SignatureRefused("signatures: expected $threshold of the role's keys, got $good")
        return signed
    }

    companion object {
        private const val MOST_SIGNATURES = 32

        /**
         * From the `keys` of TUF metadata, and the `keyids` and `threshold` of one of its roles.
         *
         * @throws DocumentMalformed for what has not that form
         */
        fun of(keys: Json, keyIds: List<String>, threshold: Int): Role {
            val known = Members(keys, "keys")
            val parsed = keyIds.distinct().mapNotNull { id -> publicKey(known.inner(id))?.let { id to it } }
            return Role(parsed.toMap(), threshold)
        }
    }
}

private const val PEM_BEGIN = "-----BEGIN PUBLIC KEY-----"
private const val PEM_END = "-----END PUBLIC KEY-----"

/** Of NIST P-256 (FIPS 186-4, D.1.2.3): other curves have 256 bits too. */
private val P256_ORDER = BigInteger("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
private val EVEN_HEX = Regex("(?:[0-9a-f]{2})+")

private fun publicKey(members: Members): PublicKey? {
    if (members.text("keytype") != "ecdsa" || members.text("scheme") != "ecdsa-sha2-nistp256") return null
    val pem = members.inner("keyval").text("public").trim()
    return try {
        val encoded = Base64.getMimeDecoder().decode(pem.removePrefix(PEM_BEGIN).removeSuffix(PEM_END))
        val key = KeyFactory.getInstance("EC").generatePublic(X509EncodedKeySpec(encoded)) as ECPublicKey
        key.takeIf { it.params.order == P256_ORDER }
    } catch (_: GeneralSecurityException) {
        null
    } catch (_: IllegalArgumentException) {
        null
    }
}

private fun PublicKey.hasSigned(bytes: ByteArray, signature: String): Boolean {
    if (!EVEN_HEX.matches(signature)) return false
    return try {
        Signature.getInstance("SHA256withECDSA").run {
            initVerify(this@hasSigned)
            update(bytes)
            verify(signature.chunked(2).map { it.toInt(16).toByte() }.toByteArray())
        }
    } catch (_: GeneralSecurityException) {
        false
    }
}
