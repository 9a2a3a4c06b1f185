/* The text index's inner loops: tokenising, searching the terms, reading postings, merging. Optional.
 *
 * Built as storage._text when a compiler is there and chosen by storage/native.py. Every function here has a pure twin
 * in the Python module whose promise it keeps; tests/fields holds the two equal:
 *
 *     storage/fields/text.py           text_build, text_find, text_blocks
 *     storage/fields/candidates.py     text_mark
 *     storage/fields/text_merge.py     text_union, text_move
 *
 * The layout of terms and postings is drawn in storage/fields/text.py. Knows no file, no clock, no thread.
 *
 * Every offset that comes in is checked before a byte behind it is read. The long loops let the interpreter go
 * meanwhile: they touch buffers only, which the caller holds. */

#define _GNU_SOURCE /* memmem */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if !defined(__GNUC__) || !defined(__SIZEOF_INT128__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernel is for GCC or Clang on a 64-bit little-endian machine; elsewhere the pure functions serve"
#endif

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#define TERM_BYTES_MAX 64
#define EDGE '\n'
#define NOT_ASCII 0x80
#define GONE UINT32_MAX /* the rank of a dead row */

static inline u32 load32(const void *at) { u32 v; memcpy(&v, at, 4); return v; }
static inline u64 load64(const void *at) { u64 v; memcpy(&v, at, 8); return v; }

/* ---- Arguments. */

static int takes(const char *name, Py_ssize_t given, Py_ssize_t wanted) {
    if (given == wanted)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, not %zd", name, wanted, given);
    return 0;
}

/* Opens a column of integers of so many bytes each. */
static int open_column(PyObject *object, int width, int flags, Py_buffer *column) {
    if (PyObject_GetBuffer(object, column, flags) < 0)
        return 0;
    if (column->len % width == 0)
        return 1;
    PyErr_Format(PyExc_ValueError, "%zd bytes are no column of %d each", column->len, width);
    PyBuffer_Release(column);
    return 0;
}

/* Opens as many columns as widths are given ("1", "4", "8"; "w" before one that is written to). */
static int open_columns(PyObject *const *objects, const char *widths, Py_buffer *columns) {
    int count = 0;
    for (; *widths; widths++) {
        int flags = *widths == 'w' ? PyBUF_WRITABLE : PyBUF_SIMPLE;
        widths += *widths == 'w';
        if (!open_column(objects[count], *widths - '0', flags, &columns[count])) {
            while (count--)
                PyBuffer_Release(&columns[count]);
            return 0;
        }
        count++;
    }
    return 1;
}

static void close_columns(Py_buffer *columns, int count) {
    for (int i = 0; i < count; i++)
        PyBuffer_Release(&columns[i]);
}

static PyObject *refused(const char *what) {
    PyErr_SetString(PyExc_ValueError, what);
    return NULL;
}

/* ---- Building. */

typedef struct {
    u64 head; /* its first eight bytes, the first one highest: most comparisons end here */
    const u8 *at;
    u32 size, count, last_row, hash;
} Term;

typedef struct {
    u32 code, row;
} Pair;

typedef struct {
    Term *terms;
    u32 *slots; /* a term's code and one, or 0 */
    Pair *pairs; /* every term of every row, once a row */
    u32 *long_rows;
    u64 seed;
    size_t term_count, term_room, slot_mask, pair_count, pair_room, long_count, long_room;
} Vocabulary;

static u8 is_word[256];

static inline u64 fold128(u64 a, u64 b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (u64)product ^ (u64)(product >> 64);
}

/* Seeded by an address, so that nobody can prepare words that all fall into one slot. */
static inline u32 hash_of(const u8 *at, size_t size, u64 seed) {
    u64 h = seed ^ size * 0x9E3779B185EBCA87ull, low, high;
    for (; size > 16; size -= 8, at += 8)
        h = fold128(h ^ load64(at), 0xC2B2AE3D27D4EB4Full);
    if (size >= 8) {
        low = load64(at);
        high = load64(at + size - 8);
    } else if (size >= 4) {
        low = load32(at);
        high = load32(at + size - 4);
    } else {
        low = at[0] | (u64)at[size >> 1] << 8;
        high = at[size - 1];
    }
    return (u32)fold128(low ^ h, high ^ 0x165667B19E3779F9ull ^ seed);
}

static inline u64 head_of(const u8 *at, size_t size) {
    u64 head = 0;
    memcpy(&head, at, size < 8 ? size : 8);
    return __builtin_bswap64(head);
}

/* The array with room for one more, or NULL when there is no memory: then the old one stays as it is. */
static void *grown(void *array, size_t *room, size_t count, size_t width) {
    if (count < *room)
        return array;
    size_t more = *room ? 2 * *room : 1024;
    void *moved = PyMem_RawRealloc(array, more * width);
    if (moved)
        *room = more;
    return moved;
}

static int widen_slots(Vocabulary *v) {
    size_t slots = v->slot_mask ? 2 * (v->slot_mask + 1) : 4096;
    u32 *wider = PyMem_RawCalloc(slots, 4);
    if (!wider)
        return 0;
    if (!v->slots)
        v->seed = (u64)(uintptr_t)wider * 0x9E3779B185EBCA87ull ^ (u64)(uintptr_t)v;
    PyMem_RawFree(v->slots);
    v->slots = wider;
    v->slot_mask = slots - 1;
    for (size_t code = 0; code < v->term_count; code++) {
        size_t slot = v->terms[code].hash & v->slot_mask;
        while (wider[slot])
            slot = (slot + 1) & v->slot_mask;
        wider[slot] = (u32)code + 1;
    }
    return 1;
}

static int add_term(Vocabulary *v, const u8 *at, size_t size, u32 row) {
    u32 hash = hash_of(at, size, v->seed), code;
    size_t slot = hash & v->slot_mask;
    Term *term;
    for (;; slot = (slot + 1) & v->slot_mask) {
        code = v->slots[slot];
        if (!code)
            break;
        term = &v->terms[code - 1];
        if (term->hash == hash && term->size == size && memcmp(term->at, at, size) == 0)
            break;
    }
    if (!code) {
        Term *terms = grown(v->terms, &v->term_room, v->term_count, sizeof(Term));
        if (!terms)
            return 0;
        v->terms = terms;
        if (v->term_count >= UINT32_MAX - 1)
            return 0;
        v->terms[v->term_count] = (Term){head_of(at, size), at, (u32)size, 0, row, hash};
        code = (u32)++v->term_count;
        v->slots[slot] = code;
        if (2 * v->term_count > v->slot_mask && !widen_slots(v))
            return 0;
    }
    term = &v->terms[code - 1];
    if (term->count && term->last_row == row)
        return 1;
    term->count++;
    term->last_row = row;
    Pair *pairs = grown(v->pairs, &v->pair_room, v->pair_count, sizeof(Pair));
    if (!pairs)
        return 0;
    v->pairs = pairs;
    v->pairs[v->pair_count++] = (Pair){code - 1, row};
    return 1;
}

/* Joints (fields/joints.py): the last bytes of a word and the first of the next one, two bits for both. */
#define PIECE 2
#define NO_PIECE UINT32_MAX

static inline u32 load16(const u8 *at) { return (u32)at[0] | (u32)at[1] << 8; }

static inline void add_joint(u64 *joints, u32 before, u32 after) {
    u64 mixed = (u64)(before | after << 16) * 0x9E3779B97F4A7C15ull, bits[2] = {mixed >> 57, mixed >> 50 & 127};
    for (int i = 0; i < 2; i++)
        joints[bits[i] >> 6] |= 1ull << (bits[i] & 63);
}

/* Adds a string's terms, and its joints to those of its row. */
static int add_string(Vocabulary *v, const u8 *at, const u8 *end, u32 row, u64 *joints) {
    u32 before = NO_PIECE;
    while (at < end) {
        if (!is_word[*at]) {
            at++;
            continue;
        }
        const u8 *word = at;
        while (at < end && is_word[*at])
            at++;
        int is_long = at - word >= PIECE;
        if (is_long && before != NO_PIECE)
            add_joint(joints, before, load16(word));
        before = is_long ? load16(at - PIECE) : NO_PIECE;
        if (at - word > TERM_BYTES_MAX && !(v->long_count && v->long_rows[v->long_count - 1] == row)) {
            u32 *long_rows = grown(v->long_rows, &v->long_room, v->long_count, 4);
            if (!long_rows)
                return 0;
            v->long_rows = long_rows;
            v->long_rows[v->long_count++] = row;
        }
        for (; word < at; word += TERM_BYTES_MAX)
            if (!add_term(v, word, (size_t)(at - word < TERM_BYTES_MAX ? at - word : TERM_BYTES_MAX), row))
                return 0;
    }
    return 1;
}

typedef struct {
    u64 head;
    const Term *term;
} Sorted;

static int by_bytes(const void *a, const void *b) {
    const Sorted *x = a, *y = b;
    if (x->head != y->head)
        return x->head < y->head ? -1 : 1;
    u32 both = x->term->size < y->term->size ? x->term->size : y->term->size;
    int order = memcmp(x->term->at, y->term->at, both);
    return order ? order : (x->term->size > y->term->size) - (x->term->size < y->term->size);
}

/* Writes the five arrays out; place: room for one u64 a term. */
static void write_out(const Vocabulary *v, const Sorted *sorted, u64 *place, u8 *offsets, u8 *blob, u8 *starts, u8 *postings) {
    u32 offset = 1;
    u64 start = 0;
    *blob++ = EDGE;
    for (size_t i = 0; i < v->term_count; i++) {
        const Term *term = sorted[i].term;
        memcpy(offsets + 4 * i, &offset, 4);
        memcpy(starts + 8 * i, &start, 8);
        memcpy(blob, term->at, term->size);
        blob[term->size] = EDGE;
        blob += term->size + 1;
        offset += term->size + 1;
        place[term - v->terms] = start;
        start += term->count;
    }
    memcpy(offsets + 4 * v->term_count, &offset, 4);
    memcpy(starts + 8 * v->term_count, &start, 8);
    for (size_t i = 0; i < v->pair_count; i++)
        memcpy(postings + 4 * place[v->pairs[i].code]++, &v->pairs[i].row, 4);
}

static PyObject *tables_of(const Vocabulary *v) {
    u64 blob_size = 1;
    PyObject *parts[5] = {0}, *result = NULL;
    u64 *place = PyMem_RawMalloc(8 * v->term_count + 8);
    Sorted *sorted = PyMem_RawMalloc(sizeof(Sorted) * v->term_count + 8);
    for (size_t i = 0; i < v->term_count; i++)
        blob_size += v->terms[i].size + 1;
    if (!place || !sorted) {
        PyErr_NoMemory();
        goto done;
    }
    if (blob_size > UINT32_MAX) {
        refused("the terms of one segment have 4 GiB or more");
        goto done;
    }
    u64 sizes[5] = {4 * v->term_count + 4, blob_size, 8 * v->term_count + 8, 4 * v->pair_count, 4 * v->long_count};
    for (int i = 0; i < 5; i++)
        if (!(parts[i] = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)sizes[i])))
            goto done;
    u8 *out[5];
    for (int i = 0; i < 5; i++)
        out[i] = (u8 *)PyBytes_AS_STRING(parts[i]);
    Py_BEGIN_ALLOW_THREADS
    for (size_t i = 0; i < v->term_count; i++)
        sorted[i] = (Sorted){v->terms[i].head, &v->terms[i]};
    qsort(sorted, v->term_count, sizeof(Sorted), by_bytes);
    write_out(v, sorted, place, out[0], out[1], out[2], out[3]);
    if (v->long_count)
        memcpy(out[4], v->long_rows, 4 * v->long_count);
    Py_END_ALLOW_THREADS
    result = PyTuple_Pack(5, parts[0], parts[1], parts[2], parts[3], parts[4]);
done:
    for (int i = 0; i < 5; i++)
        Py_XDECREF(parts[i]);
    PyMem_RawFree(place);
    PyMem_RawFree(sorted);
    return result;
}

/* text_build(blob, at, length, row, rows): (term_offsets, term_blob, starts, posting_rows, long_rows, joints). */
static PyObject *text_build(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    enum { BLOB, AT, LENGTH, ROW, COLUMNS };
    Py_buffer column[COLUMNS];
    PyObject *tables = NULL, *result = NULL;
    if (!takes("text_build", count, COLUMNS + 1))
        return NULL;
    Py_ssize_t rows = PyLong_AsSsize_t(args[COLUMNS]);
    if (PyErr_Occurred())
        return NULL;
    if (rows < 0 || rows > UINT32_MAX)
        return refused("so many rows cannot be");
    PyObject *joints = PyBytes_FromStringAndSize(NULL, 16 * rows);
    if (!joints || !open_columns(args, "1844", column)) {
        Py_XDECREF(joints);
        return NULL;
    }
    u64 *joints_of = (u64 *)PyBytes_AS_STRING(joints);
    Vocabulary v = {0};
    Py_ssize_t texts = column[AT].len / 8;
    int failed = column[LENGTH].len != 4 * texts || column[ROW].len != 4 * texts, is_out = failed;
    u64 size = (u64)column[BLOB].len;
    Py_BEGIN_ALLOW_THREADS
    failed = failed || !widen_slots(&v);
    memset(joints_of, 0, 16 * (size_t)rows);
    for (Py_ssize_t i = 0; !failed && i < texts; i++) {
        u64 at = load64((u8 *)column[AT].buf + 8 * i), length = load32((u8 *)column[LENGTH].buf + 4 * i);
        u32 row = load32((u8 *)column[ROW].buf + 4 * i);
        const u8 *begin = (const u8 *)column[BLOB].buf + at;
        if (at > size || length > size - at || row >= (u64)rows)
            failed = is_out = 1;
        else
            failed = !add_string(&v, begin, begin + length, row, &joints_of[2 * (size_t)row]);
    }
    Py_END_ALLOW_THREADS
    if (!failed)
        tables = tables_of(&v);
    else if (is_out)
        refused("a string lies outside the blob, its row is not there, or the columns are not of one length");
    else
        PyErr_NoMemory();
    PyMem_RawFree(v.terms);
    PyMem_RawFree(v.slots);
    PyMem_RawFree(v.pairs);
    PyMem_RawFree(v.long_rows);
    close_columns(column, COLUMNS);
    if (tables) {
        PyObject *last = PyTuple_Pack(1, joints);
        result = last ? PySequence_Concat(tables, last) : NULL;
        Py_XDECREF(last);
        Py_DECREF(tables);
    }
    Py_DECREF(joints);
    return result;
}

/* ---- Searching the terms. */

typedef struct {
    const u8 *at;
    int is_wide;
    size_t terms;
} Offsets;

static inline u64 offset_of(const Offsets *offsets, size_t term) {
    return offsets->is_wide ? load64(offsets->at + 8 * term) : load32(offsets->at + 4 * term);
}

/* The term that holds the byte at a place, searched from a term that does not stand behind it. */
static size_t term_at(const Offsets *offsets, size_t from, u64 place) {
    size_t step = 1, low = from, high;
    while (low + step < offsets->terms && offset_of(offsets, low + step) <= place) {
        low += step;
        step *= 2;
    }
    high = low + step < offsets->terms ? low + step : offsets->terms; /* it is in [low, high) */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (offset_of(offsets, middle) <= place)
            low = middle;
        else
            high = middle;
    }
    return low;
}

enum { FREE, WORD };

static inline int is_edge(u8 byte, u64 edge) { return edge == FREE || byte == EDGE || byte >= NOT_ASCII; }

/* Which blocks of the terms hold which letters: a row of bits for each hash of three bytes, a bit a block in which such three begin.
 * A needle is looked for only in blocks that have all of its threes, so that a rare word takes a hundredth of going through all. */

#define BLOCK_BYTES 4096
#define HASHES 4096

static inline u32 hash_of_three(const u8 *at) {
    return ((u32)at[0] | (u32)at[1] << 8 | (u32)at[2] << 16) * 0x9E3779B1u >> 20;
}

static inline size_t words_of(size_t size) { return (size / BLOCK_BYTES + 1 + 63) / 64; }

static PyObject *text_blocks(PyObject *module, PyObject *given) {
    Py_buffer blob;
    if (PyObject_GetBuffer(given, &blob, PyBUF_SIMPLE) < 0)
        return NULL;
    size_t size = (size_t)blob.len, words = words_of(size);
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(HASHES * words * 8));
    if (result) {
        u8 *bits = (u8 *)PyBytes_AS_STRING(result);
        const u8 *data = blob.buf;
        Py_BEGIN_ALLOW_THREADS
        memset(bits, 0, HASHES * words * 8);
        for (size_t i = 0; i + 3 <= size; i++)
            bits[hash_of_three(data + i) * words * 8 + i / BLOCK_BYTES / 8] |= (u8)(1u << (i / BLOCK_BYTES % 8));
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&blob);
    return result;
}

typedef struct {
    const u8 *blob, *needle;
    size_t size, needle_size;
    u64 before, after;
    const u64 *may; /* a bit for each block in which a match may begin; NULL: in all */
} Search;

/* The blocks in which the needle may begin: its threes begin there, or in the next block. */
static void choose_blocks(const Search *s, const u64 *bits, u64 *may) {
    size_t words = words_of(s->size);
    memset(may, 0xFF, words * 8);
    for (size_t i = 0; i + 3 <= s->needle_size; i++) {
        const u64 *row = bits + hash_of_three(s->needle + i) * words;
        for (size_t word = 0; word < words; word++)
            may[word] &= row[word] | row[word] >> 1 | (word + 1 < words ? row[word + 1] << 63 : 0);
    }
}

static inline int is_set(const u64 *bits, size_t place) { return bits[place / 64] >> (place % 64) & 1; }

/* Where the needle stands next, at or after a place. */
static const u8 *next_place(const Search *s, const u8 *at) {
    const u8 *end = s->blob + s->size;
    if (!s->may)
        return memmem(at, (size_t)(end - at), s->needle, s->needle_size);
    size_t blocks = s->size / BLOCK_BYTES + 1, block = (size_t)(at - s->blob) / BLOCK_BYTES;
    while (block < blocks) {
        if (!is_set(s->may, block)) {
            block = s->may[block / 64] >> (block % 64) ? block + 1 : (block / 64 + 1) * 64;
            continue;
        }
        size_t last = block + 1;
        while (last < blocks && is_set(s->may, last))
            last++;
        const u8 *from = s->blob + block * BLOCK_BYTES;
        size_t stop = last * BLOCK_BYTES + s->needle_size - 1;
        from = from > at ? from : at;
        const u8 *until = stop < s->size ? s->blob + stop : end;
        const u8 *found = from < until ? memmem(from, (size_t)(until - from), s->needle, s->needle_size) : NULL;
        if (found)
            return found;
        block = last;
    }
    return NULL;
}

/* The terms that match, into out (when there is one) up to its room. */
static size_t matches(const Search *s, const Offsets *offsets, u32 *out, size_t room) {
    const u8 *at = s->blob, *end = s->blob + s->size;
    size_t found = 0, term = 0;
    while (found < room && (at = next_place(s, at))) {
        const u8 *behind = at + s->needle_size;
        int begins_well = !s->before || (at > s->blob && is_edge(at[-1], s->before));
        if (!begins_well || (s->after && (behind == end || !is_edge(*behind, s->after)))) {
            at++;
            continue;
        }
        u64 place = (u64)(at - s->blob) + (*s->needle == EDGE);
        if (place < offset_of(offsets, 0) || place >= offset_of(offsets, offsets->terms))
            break;
        term = term_at(offsets, term, place);
        out[found++] = (u32)term;
        u64 next = offset_of(offsets, term + 1) - 1; /* the edge before the next term */
        at = next > place && next < s->size ? s->blob + next : at + 1;
    }
    return found;
}

/* text_find(blob, offsets, needle, before, after, blocks): the numbers of terms, u32. blocks: of the blob, by text_blocks, or None. */
static PyObject *text_find(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Py_buffer blob, table, needle, blocks = {.buf = NULL};
    PyObject *result = NULL;
    u32 *found = NULL;
    u64 *may = NULL;
    if (!takes("text_find", count, 6))
        return NULL;
    u64 before = PyLong_AsUnsignedLongLong(args[3]), after = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(args[4]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &blob, PyBUF_SIMPLE) < 0)
        return NULL;
    if (PyObject_GetBuffer(args[1], &table, PyBUF_ND) < 0)
        goto close_blob;
    if (PyObject_GetBuffer(args[2], &needle, PyBUF_SIMPLE) < 0)
        goto close_table;
    if ((table.itemsize != 4 && table.itemsize != 8) || table.len < table.itemsize || needle.len == 0) {
        refused("offsets are u32 or u64 and not none, a needle is not empty");
        goto close;
    }
    if (args[5] != Py_None && PyObject_GetBuffer(args[5], &blocks, PyBUF_SIMPLE) < 0)
        goto close;
    size_t words = words_of((size_t)blob.len);
    if (blocks.buf && (size_t)blocks.len != HASHES * words * 8) {
        refused("these blocks are of other terms");
        goto close;
    }
    Offsets offsets = {table.buf, table.itemsize == 8, (size_t)(table.len / table.itemsize) - 1};
    Search search = {blob.buf, needle.buf, (size_t)blob.len, (size_t)needle.len, before, after, NULL};
    found = PyMem_RawMalloc(4 * offsets.terms + 4);
    may = PyMem_RawMalloc(8 * words);
    if (!found || !may) {
        PyErr_NoMemory();
        goto close;
    }
    size_t terms;
    Py_BEGIN_ALLOW_THREADS
    if (blocks.buf && search.needle_size >= 3 && search.needle_size <= BLOCK_BYTES) {
        choose_blocks(&search, blocks.buf, may);
        search.may = may;
    }
    terms = matches(&search, &offsets, found, offsets.terms);
    Py_END_ALLOW_THREADS
    result = PyBytes_FromStringAndSize((char *)found, (Py_ssize_t)(4 * terms));
close:
    PyMem_RawFree(found);
    PyMem_RawFree(may);
    if (blocks.buf)
        PyBuffer_Release(&blocks);
    PyBuffer_Release(&needle);
close_table:
    PyBuffer_Release(&table);
close_blob:
    PyBuffer_Release(&blob);
    return result;
}

/* text_mark(postings, low, high, first, marks, descending): see fields/candidates.py. */
static PyObject *text_mark(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    enum { POSTINGS, LOW, HIGH, MARKS, COLUMNS };
    Py_buffer column[COLUMNS];
    if (!takes("text_mark", count, 6))
        return NULL;
    u64 first = PyLong_AsUnsignedLongLong(args[3]);
    int descending = PyErr_Occurred() ? -1 : PyObject_IsTrue(args[5]), is_out = 0;
    PyObject *columns[COLUMNS] = {args[0], args[1], args[2], args[4]};
    if (descending < 0 || !open_columns(columns, "4w8w8w1", column))
        return NULL;
    const u8 *postings = column[POSTINGS].buf;
    u64 *low = column[LOW].buf, *high = column[HIGH].buf, size = (u64)column[MARKS].len;
    u8 *marks = column[MARKS].buf;
    Py_ssize_t terms = column[LOW].len / 8;
    is_out = column[HIGH].len != column[LOW].len;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t term = 0; !is_out && term < terms; term++) {
        u64 begin = low[term], end = high[term], row;
        if (begin > end || end > (u64)column[POSTINGS].len / 4) {
            is_out = 1;
        } else if (descending) {
            for (; begin < end && (row = load32(postings + 4 * (end - 1))) >= first; end--)
                if (row - first < size)
                    marks[row - first] = 1;
            high[term] = end;
        } else {
            for (; begin < end && (row = load32(postings + 4 * begin)) < first + size; begin++)
                if (row >= first)
                    marks[row - first] = 1;
            low[term] = begin;
        }
    }
    Py_END_ALLOW_THREADS
    close_columns(column, COLUMNS);
    return is_out ? refused("low and high lie outside the postings") : Py_NewRef(Py_None);
}

/* ---- Merging. */

typedef struct {
    Py_buffer blob, table;
    int is_open;
    size_t term, terms;
    const u8 *at; /* the next term */
    size_t size;
    u64 head;
    u32 *to; /* its terms' numbers in the union */
} Source;

/* Moves on to the source's term; 0 when its table points outside the blob. */
static int load_term(Source *s) {
    if (s->term >= s->terms)
        return 1;
    u64 begin = load64((u8 *)s->table.buf + 8 * s->term), end = load64((u8 *)s->table.buf + 8 * (s->term + 1));
    if (begin >= end || end > (u64)s->blob.len)
        return 0;
    s->at = (u8 *)s->blob.buf + begin;
    s->size = (size_t)(end - begin - 1);
    s->head = head_of(s->at, s->size);
    return 1;
}

static int order_of(const Source *a, const Source *b) {
    if (a->head != b->head)
        return a->head < b->head ? -1 : 1;
    int order = memcmp(a->at, b->at, a->size < b->size ? a->size : b->size);
    return order ? order : (a->size > b->size) - (a->size < b->size);
}

/* The number of terms in the union, or -1; blob and offsets have room for all terms of all sources. */
static int64_t united(Source *sources, Py_ssize_t count, u8 *blob, u64 *offsets) {
    u64 offset = 1;
    int64_t terms = 0;
    blob[0] = EDGE;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!load_term(&sources[i]))
            return -1;
    for (;; terms++) {
        Source *least = NULL;
        for (Py_ssize_t i = 0; i < count; i++)
            if (sources[i].term < sources[i].terms && (!least || order_of(&sources[i], least) < 0))
                least = &sources[i];
        offsets[terms] = offset;
        if (!least)
            return terms;
        if (terms == UINT32_MAX)
            return -1;
        Source taken = *least;
        memcpy(blob + offset, taken.at, taken.size);
        blob[offset + taken.size] = EDGE;
        offset += taken.size + 1;
        for (Py_ssize_t i = 0; i < count; i++)
            if (sources[i].term < sources[i].terms && order_of(&sources[i], &taken) == 0) {
                sources[i].to[sources[i].term++] = (u32)terms;
                if (!load_term(&sources[i]))
                    return -1;
            }
    }
}

static int open_source(Source *source, PyObject *pair) {
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)
        return refused("a source is (blob, offsets)") != NULL;
    if (PyObject_GetBuffer(PyTuple_GET_ITEM(pair, 0), &source->blob, PyBUF_SIMPLE) < 0)
        return 0;
    if (!open_column(PyTuple_GET_ITEM(pair, 1), 8, PyBUF_SIMPLE, &source->table)) {
        PyBuffer_Release(&source->blob);
        return 0;
    }
    source->is_open = 1;
    source->terms = source->table.len ? (size_t)(source->table.len / 8) - 1 : 0;
    return 1;
}

/* text_union(((blob, offsets), ...)): (offsets, blob, (to, ...)), all offsets u64. */
static PyObject *text_union(PyObject *module, PyObject *pairs) {
    u64 bytes = 1, every = 0;
    PyObject *blob = NULL, *offsets = NULL, *maps = NULL, *result = NULL;
    if (!PyTuple_Check(pairs))
        return refused("sources come as a tuple");
    Py_ssize_t count = PyTuple_GET_SIZE(pairs);
    Source *sources = PyMem_RawCalloc((size_t)count + 1, sizeof(Source));
    if (!sources)
        return PyErr_NoMemory();
    maps = PyTuple_New(count);
    for (Py_ssize_t i = 0; maps && i < count; i++) {
        if (!open_source(&sources[i], PyTuple_GET_ITEM(pairs, i)))
            goto done;
        PyObject *map = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(4 * sources[i].terms));
        if (!map)
            goto done;
        PyTuple_SET_ITEM(maps, i, map);
        sources[i].to = (u32 *)PyBytes_AS_STRING(map);
        bytes += (u64)sources[i].blob.len;
        every += sources[i].terms;
    }
    blob = maps ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes) : NULL;
    offsets = blob ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(8 * every + 8)) : NULL;
    if (!offsets)
        goto done;
    int64_t terms;
    u64 *table = (u64 *)PyBytes_AS_STRING(offsets);
    Py_BEGIN_ALLOW_THREADS
    terms = united(sources, count, (u8 *)PyBytes_AS_STRING(blob), table);
    Py_END_ALLOW_THREADS
    if (terms < 0)
        refused("a table of terms points outside its blob");
    else if (_PyBytes_Resize(&blob, (Py_ssize_t)table[terms]) == 0 && _PyBytes_Resize(&offsets, (Py_ssize_t)(8 * terms + 8)) == 0)
        result = PyTuple_Pack(3, offsets, blob, maps);
done:
    for (Py_ssize_t i = 0; i < count; i++)
        if (sources[i].is_open) {
            PyBuffer_Release(&sources[i].blob);
            PyBuffer_Release(&sources[i].table);
        }
    PyMem_RawFree(sources);
    Py_XDECREF(blob);
    Py_XDECREF(offsets);
    Py_XDECREF(maps);
    return result;
}

/* 0 when something lies outside: a posting behind the ranks, a place behind the end of out. */
static int moved(const Py_buffer *out, const u64 *place, const u8 *starts, Py_ssize_t terms, const Py_buffer *postings,
                 const Py_buffer *ranks, u32 base) {
    u64 room = (u64)out->len / 4, rows = ranks ? (u64)ranks->len / 4 : 0;
    for (Py_ssize_t term = 0; term < terms; term++) {
        u64 at = load64(starts + 8 * term), end = load64(starts + 8 * (term + 1)), to = place[term];
        if (at > end || end > (u64)postings->len / 4 || to > room)
            return 0;
        for (; at < end; at++) {
            u32 row = load32((u8 *)postings->buf + 4 * at);
            if (ranks) {
                if (row >= rows)
                    return 0;
                row = load32((u8 *)ranks->buf + 4 * (u64)row);
                if (row == GONE)
                    continue;
            }
            if (to >= room)
                return 0;
            row += base;
            memcpy((u8 *)out->buf + 4 * to++, &row, 4);
        }
    }
    return 1;
}

/* text_move(out, place, starts, postings, ranks, base): see fields/text_merge.py. */
static PyObject *text_move(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    enum { OUT, PLACE, STARTS, POSTINGS, RANKS, COLUMNS };
    Py_buffer column[COLUMNS];
    if (!takes("text_move", count, COLUMNS + 1))
        return NULL;
    u64 base = PyLong_AsUnsignedLongLong(args[COLUMNS]);
    int has_ranks = args[RANKS] != Py_None, is_right;
    if (PyErr_Occurred() || !open_columns(args, has_ranks ? "w48844" : "w4884", column))
        return NULL;
    Py_ssize_t terms = column[PLACE].len / 8;
    is_right = column[STARTS].len == column[PLACE].len + 8 && base <= UINT32_MAX;
    Py_BEGIN_ALLOW_THREADS
    is_right = is_right && moved(&column[OUT], column[PLACE].buf, column[STARTS].buf, terms, &column[POSTINGS],
                                 has_ranks ? &column[RANKS] : NULL, (u32)base);
    Py_END_ALLOW_THREADS
    close_columns(column, COLUMNS - !has_ranks);
    return is_right ? Py_NewRef(Py_None) : refused("postings, their places and ranks do not belong together");
}

/* ---- The module. */

#ifndef KERNEL_SOURCE /* zlib's crc32 of this file, by setup.py: so that a test can tell an extension that was not built again */
#define KERNEL_SOURCE 0u
#endif

#define FAST(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef text_functions[] = {
    FAST(text_build),
    FAST(text_find),
    FAST(text_mark),
    {"text_blocks", text_blocks, METH_O, NULL},
    {"text_union", text_union, METH_O, NULL},
    FAST(text_move),
    {NULL, NULL, 0, NULL},
};

static int text_make(PyObject *module) {
    for (int byte = 0; byte < 256; byte++) {
        int small = byte | 0x20;
        is_word[byte] = byte >= NOT_ASCII || byte == '_' || (byte >= '0' && byte <= '9') || (small >= 'a' && small <= 'z');
    }
    PyObject *source = PyLong_FromUnsignedLong(KERNEL_SOURCE);
    int failed = !source || PyModule_AddObjectRef(module, "SOURCE", source) < 0;
    Py_XDECREF(source);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot text_slots[] = {{Py_mod_exec, text_make}, {0, NULL}};

static struct PyModuleDef text_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "storage._text",
    .m_doc = "The text index's inner loops; see storage/text.c.",
    .m_size = 0,
    .m_methods = text_functions,
    .m_slots = text_slots,
};

PyMODINIT_FUNC PyInit__text(void) { return PyModuleDef_Init(&text_module); }
