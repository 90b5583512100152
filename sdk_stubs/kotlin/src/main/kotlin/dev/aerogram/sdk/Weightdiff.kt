package dev.aerogram.sdk

import java.io.File
import java.io.OutputStream
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest

/** The patch was not applied; what was written is not the target, and the file is to be fetched whole. */
class PatchRefused(message: String) : Exception(message)

/**
 * Applies a weightdiff-1 patch: the format to the byte is `docs/weightdiff.md`.
 *
 * Memory does not depend on the size of the files: base, patch and result are read and written in pieces.
 *
 * @param result gets the file of [length] bytes and digest [sha256], and never a byte more
 * @throws PatchRefused for a damaged patch, another base, or a result other than wanted
 */
fun applyPatch(patch: File, base: File, result: OutputStream, sha256: String, length: Long) {
    RandomAccessFile(patch, "r").use { patchFile ->
        RandomAccessFile(base, "r").use { baseFile ->
            val header = PatchHeader.read(patchFile)
            if (header.targetSha256.toHex() != sha256 || header.targetLength != length) {
                throw PatchRefused("patch: expected the target $sha256 of $length bytes, got another")
            }
            requireBase(baseFile, header)
            val digest = MessageDigest.getInstance("SHA-256")
            PatchStreams(patchFile, header).use { streams ->
                streams.makePieces(baseFile) { piece ->
                    digest.update(piece)
                    result.write(piece)
                }
            }
            val made = digest.digest()
            if (!made.contentEquals(header.targetSha256)) {
                throw PatchRefused("patch: expected to make $sha256, got ${made.toHex()}")
            }
        }
    }
}

private const val MOST_BYTES = Int.MAX_VALUE.toLong()
private const val MOST_SEGMENTS = 1L shl 18
internal const val PIECE_BYTES = 1 shl 16
internal const val STREAMS = 16
private const val HEADER_BYTES = 84 + 4 * STREAMS
private val MAGIC = byteArrayOf(0x41, 0x47, 0x57, 0x44, 1, 0, 0, 0)

/** [streamLengths] are bytes as deflated, in the order in which the streams follow the header. */
internal class PatchHeader(
    val baseSha256: ByteArray,
    val targetSha256: ByteArray,
    val baseLength: Long,
    val targetLength: Long,
    val segments: Long,
    val streamLengths: List<Long>,
) {
    fun offsetOf(stream: Int): Long = HEADER_BYTES + streamLengths.take(stream).sum()

    companion object {
        fun read(patch: RandomAccessFile): PatchHeader {
            val size = patch.length()
            if (size < HEADER_BYTES) throw PatchRefused("patch: expected $HEADER_BYTES bytes of header, got $size")
            val bytes = ByteArray(HEADER_BYTES).also { patch.seek(0); patch.readFully(it) }
            if (!bytes.copyOf(MAGIC.size).contentEquals(MAGIC)) throw PatchRefused("patch: expected weightdiff-1")
            val header = parse(bytes)
            header.requireWithinLimits(size)
            return header
        }

        private fun parse(bytes: ByteArray): PatchHeader {
            val buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
            buffer.position(MAGIC.size)
            fun digest() = ByteArray(32).also { buffer.get(it) }
            fun number() = buffer.getInt().toLong() and 0xffffffffL
            return PatchHeader(digest(), digest(), number(), number(), number(), List(STREAMS) { number() })
        }
    }

    private fun requireWithinLimits(patchBytes: Long) {
        val bytes = maxOf(baseLength, targetLength, patchBytes)
        if (bytes > MOST_BYTES || segments > minOf(MOST_SEGMENTS, targetLength)) {
            throw PatchRefused("patch: expected sizes within the limits, got $targetLength in $segments segments")
        }
        if (offsetOf(STREAMS) != patchBytes) {
            throw PatchRefused("patch: expected ${offsetOf(STREAMS)} bytes, got $patchBytes")
        }
    }
}

private fun requireBase(base: RandomAccessFile, header: PatchHeader) {
    val digest = MessageDigest.getInstance("SHA-256")
    if (base.length() == header.baseLength) {
        val piece = ByteArray(PIECE_BYTES)
        base.seek(0)
        generateSequence { base.read(piece).takeIf { it > 0 } }.forEach { digest.update(piece, 0, it) }
    }
    if (base.length() != header.baseLength || !digest.digest().contentEquals(header.baseSha256)) {
        throw PatchRefused("patch: expected the base ${header.baseSha256.toHex()}, got another")
    }
}
