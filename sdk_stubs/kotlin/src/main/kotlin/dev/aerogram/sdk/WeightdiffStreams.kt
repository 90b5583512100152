package dev.aerogram.sdk

import java.io.Closeable
import java.io.RandomAccessFile
import java.util.zip.DataFormatException
import java.util.zip.Inflater

private const val DEFLATED_AT_ONCE = 1 shl 14
private const val GAPS_AT_ONCE = 1 shl 12
private const val LONG_GAP = 255

private const val CONTROL = 0
private const val LITERALS = 1
private const val FIRST_PLANE = 2

private const val ADD = 0
private const val COPY = 1

/** Bytes of an element, by operation. */
private val DIFF_WIDTHS = mapOf(2 to 1, 3 to 2, 4 to 4)

/** Where the planes of a width begin among the seven. */
private val FIRST_OF_WIDTH = mapOf(1 to 0, 2 to 1, 4 to 3)
private const val PLANES = 7

/** What follows the header: control, literals, seven planes and their gaps. */
internal class PatchStreams(patch: RandomAccessFile, private val header: PatchHeader) : Closeable {
    private val streams =
        List(STREAMS) { DeflatedStream(patch, header.offsetOf(it), header.streamLengths[it]) }
    private val planes: List<BufferedBytes> = List(PLANES) { index ->
        val (values, gaps) = streams[FIRST_PLANE + index] to FIRST_PLANE + PLANES + index
        if (header.streamLengths[gaps] == 0L) values else GapPlane(values, streams[gaps])
    }
    private var cursor = 0L
    private var made = 0L

    /** The target in order, in pieces of at most [PIECE_BYTES]. */
    fun makePieces(base: RandomAccessFile, take: (ByteArray) -> Unit) {
        repeat(header.segments.toInt()) { makeSegment(base, take) }
        if (made != header.targetLength) {
            throw PatchRefused("segments: expected ${header.targetLength} bytes in all, got $made")
        }
        (planes + streams).forEach { it.finish() }
    }

    override fun close() = streams.forEach { it.close() }

    private fun makeSegment(base: RandomAccessFile, take: (ByteArray) -> Unit) {
        val operation = streams[CONTROL].read(1)[0].toInt() and 0xff
        val length = number()
        requireSegment(operation, length)
        made += length
        if (operation != ADD) {
            val step = number()
            cursor += (step shr 1) xor -(step and 1)
            if (cursor < 0 || cursor > header.baseLength - length) {
                throw PatchRefused("segment: expected $length bytes inside the base, got them from $cursor")
            }
            base.seek(cursor)
            cursor += length
        }
        for (start in 0 until length step PIECE_BYTES.toLong()) {
            take(piece(operation, minOf(PIECE_BYTES.toLong(), length - start).toInt(), base))
        }
    }

    private fun requireSegment(operation: Int, length: Long) {
        val known = operation == ADD || operation == COPY || operation in DIFF_WIDTHS
        if (!known || length == 0L || made + length > header.targetLength) {
            throw PatchRefused("segment: expected a known one within the result, got $operation of $length bytes")
        }
        if (length % (DIFF_WIDTHS[operation] ?: 1) != 0L) {
            throw PatchRefused("segment: expected whole elements, got $length bytes")
        }
    }

    private fun piece(operation: Int, size: Int, base: RandomAccessFile): ByteArray {
        if (operation == ADD) return streams[LITERALS].read(size)
        val bytes = ByteArray(size).also { base.readFully(it) }
        DIFF_WIDTHS[operation]?.let { change(bytes, it) }
        return bytes
    }

    /** Adds to each element its difference, modulo 2^(8 width). */
    private fun change(bytes: ByteArray, width: Int) {
        val first = FIRST_OF_WIDTH.getValue(width)
        val parts = List(width) { planes[first + it].read(bytes.size / width) }
        for (element in 0 until bytes.size / width) {
            var (coded, before) = 0 to 0
            for (place in 0 until width) {
                coded = coded or ((parts[place][element].toInt() and 0xff) shl (8 * place))
                before = before or ((bytes[element * width + place].toInt() and 0xff) shl (8 * place))
            }
            val after = before + ((coded ushr 1) xor -(coded and 1))
            for (place in 0 until width) bytes[element * width + place] = (after ushr (8 * place)).toByte()
        }
    }

    /** Up to five bytes of seven bits, lowest first. */
    private fun number(): Long {
        var value = 0L
        for (shift in 0 until 35 step 7) {
            val byte = streams[CONTROL].read(1)[0].toLong()
            value = value or ((byte and 127) shl shift)
            if (byte >= 0) return value
        }
        throw PatchRefused("control: expected a number of at most 5 bytes, got a longer one")
    }
}

/** Bytes that are asked for in exact amounts and arrive in others. */
internal abstract class BufferedBytes {
    private var ready = ByteArray(0)
    private var taken = 0

    protected val available: Int get() = ready.size - taken

    /** Exactly [size] bytes, at most a piece. */
    fun read(size: Int): ByteArray {
        while (available < size) {
            ready = ready.copyOfRange(taken, ready.size) + more(size - available)
            taken = 0
        }
        taken += size
        return ready.copyOfRange(taken - size, taken)
    }

    /** Refuses unless everything was read and nothing follows. */
    open fun finish() {
        if (available > 0) throw PatchRefused("stream: expected its end, got more")
    }

    /** At least one byte, at most some pieces. */
    protected abstract fun more(missing: Int): ByteArray
}

/** One deflated stream of the patch, inflated only as far as it is read. */
internal class DeflatedStream(
    private val patch: RandomAccessFile,
    private var offset: Long,
    length: Long,
) : BufferedBytes(), Closeable {
    private val end = offset + length
    private val inflater = if (length > 0) Inflater(true) else null

    /** At least one byte and at most [most]. */
    fun some(most: Int): ByteArray = read(minOf(most, available).coerceAtLeast(1))

    override fun finish() {
        super.finish()
        if (inflate(ByteArray(1)) > 0 || inflater?.remaining ?: 0 > 0 || offset != end) {
            throw PatchRefused("stream: expected nothing after its end, got more")
        }
    }

    override fun close() {
        inflater?.end()
    }

    override fun more(missing: Int): ByteArray {
        val made = ByteArray(PIECE_BYTES)
        val size = inflate(made)
        if (size == 0) throw PatchRefused("stream: expected $missing bytes more, got its end")
        return made.copyOf(size)
    }

    /** How many bytes were made; none at the end of the stream, and only there. */
    private fun inflate(into: ByteArray): Int {
        if (inflater == null) return 0
        try {
            while (true) {
                val size = inflater.inflate(into)
                if (size > 0 || inflater.finished()) return size
                if (inflater.needsDictionary()) throw PatchRefused("stream: expected no dictionary, got the need of one")
                inflater.setInput(deflated())
            }
        } catch (error: DataFormatException) {
            throw PatchRefused("stream: expected deflated bytes, got $error")
        }
    }

    private fun deflated(): ByteArray {
        val size = minOf(DEFLATED_AT_ONCE.toLong(), end - offset).toInt()
        if (size == 0) throw PatchRefused("stream: expected more deflated bytes, got the end of them")
        patch.seek(offset)
        offset += size
        return ByteArray(size).also { patch.readFully(it) }
    }
}

/** A plane that is mostly zeros: how many come before each value, and the values; 255 stands for zeros alone. */
internal class GapPlane(private val values: DeflatedStream, private val gaps: DeflatedStream) : BufferedBytes() {
    override fun more(missing: Int): ByteArray {
        val runs = gaps.some(minOf(missing, GAPS_AT_ONCE)).map { it.toInt() and 0xff }
        val plane = ByteArray(runs.sumOf { if (it == LONG_GAP) LONG_GAP else it + 1 })
        val found = values.read(runs.count { it != LONG_GAP })
        var (at, value) = 0 to 0
        for (zeros in runs) {
            at += zeros
            if (zeros != LONG_GAP) plane[at++] = found[value++]
        }
        return plane
    }
}
