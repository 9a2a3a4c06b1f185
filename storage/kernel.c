/* The native kernel: the inner loops of sealing, committing and reading requests, over plain bytes. Optional.
 *
 * Built as storage._kernel when a compiler is there and chosen by storage/native.py. Every function here has a pure twin
 * in the Python module whose promise it keeps; tests/storage/test_kernel.py holds the two equal. Knows the byte layouts
 * drawn in these modules and nothing else - no file, no clock, no thread:
 *
 *     storage/values/keys.py          hash_keys               canonical keys and their hash
 *     storage/versions/statehash.py   fold                    the state hash's sum
 *     storage/shard/record.py         shard_records           records of a shard log
 *     storage/commit/codec.py         encode_body, decode_body, frames
 *     storage/commit/memtable.py      put_run
 *     storage/values/documents.py     prepare
 *     storage/index/keyfilter.py      KeyFilter
 *     node/quick.py                   requests, insert_replies, got_reply     messages of node/wire
 *
 * The checksums are written from their public specifications: CRC32C (RFC 3720), XXH3-64 with seed, BLAKE2b (RFC 7693).
 *
 * Every length that comes in is checked before a byte behind it is read. Loops run as long as what they are given is
 * long and hold the interpreter meanwhile: bounding that is the caller's (INV-9). */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "crc32c.h"
#include "utf8.h"

#if !defined(__GNUC__) || !defined(__SIZEOF_INT128__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernel is for GCC or Clang on a 64-bit little-endian machine; elsewhere the pure functions serve"
#endif

/* ---- Bytes. All layouts are little-endian unless they say otherwise, and so is the machine. */

static inline u16 load16(const void *at) { u16 v; memcpy(&v, at, 2); return v; }
static inline u32 load32(const void *at) { u32 v; memcpy(&v, at, 4); return v; }
static inline void store16(void *at, u16 v) { memcpy(at, &v, 2); }
static inline void store32(void *at, u32 v) { memcpy(at, &v, 4); }
static inline void store64(void *at, u64 v) { memcpy(at, &v, 8); }
static inline u64 rotate_left(u64 v, int bits) { return v << bits | v >> (64 - bits); }
static inline u64 rotate_right(u64 v, int bits) { return v >> bits | v << (64 - bits); }

/* Whether [at, at + length) lies within size bytes. */
static inline int lies_within(u64 at, u64 length, Py_ssize_t size) {
    return at <= (u64)size && length <= (u64)size - at;
}

/* ---- XXH3, 64 bits, seeded. The names of the steps are the specification's. */

#define P32_1 0x9E3779B1ull
#define P32_2 0x85EBCA77ull
#define P32_3 0xC2B2AE3Dull
#define P64_1 0x9E3779B185EBCA87ull
#define P64_2 0xC2B2AE3D27D4EB4Full
#define P64_3 0x165667B19E3779F9ull
#define P64_4 0x85EBCA77C2B2AE63ull
#define P64_5 0x27D4EB2F165667C5ull
#define SECRET_BYTES 192
#define STRIPE 64
#define BLOCK_STRIPES ((SECRET_BYTES - STRIPE) / 8)

static const u8 xxh3_secret[SECRET_BYTES] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static inline u64 fold128(u64 a, u64 b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (u64)product ^ (u64)(product >> 64);
}

static inline u64 avalanche(u64 h) {
    h = (h ^ h >> 37) * 0x165667919E3779F9ull;
    return h ^ h >> 32;
}

static inline u64 avalanche_short(u64 h) {
    h = (h ^ h >> 33) * P64_2;
    h = (h ^ h >> 29) * P64_3;
    return h ^ h >> 32;
}

static inline u64 mix16(const u8 *in, const u8 *secret, u64 seed) {
    return fold128(load64(in) ^ (load64(secret) + seed), load64(in + 8) ^ (load64(secret + 8) - seed));
}

static u64 xxh3_to_16(const u8 *in, size_t size, u64 seed) {
    const u8 *s = xxh3_secret;
    if (size > 8) {
        u64 low = load64(in) ^ ((load64(s + 24) ^ load64(s + 32)) + seed);
        u64 high = load64(in + size - 8) ^ ((load64(s + 40) ^ load64(s + 48)) - seed);
        return avalanche(size + __builtin_bswap64(low) + high + fold128(low, high));
    }
    if (size >= 4) {
        seed ^= (u64)__builtin_bswap32((u32)seed) << 32;
        u64 both = load32(in + size - 4) + ((u64)load32(in) << 32);
        u64 h = both ^ ((load64(s + 8) ^ load64(s + 16)) - seed);
        h ^= rotate_left(h, 49) ^ rotate_left(h, 24);
        h *= 0x9FB21C651E98DF25ull;
        h = (h ^ ((h >> 35) + size)) * 0x9FB21C651E98DF25ull;
        return h ^ h >> 28;
    }
    if (size) {
        u32 both = (u32)in[0] << 16 | (u32)in[size >> 1] << 24 | in[size - 1] | (u32)size << 8;
        return avalanche_short(both ^ ((u64)(load32(s) ^ load32(s + 4)) + seed));
    }
    return avalanche_short(seed ^ load64(s + 56) ^ load64(s + 64));
}

static u64 xxh3_to_240(const u8 *in, size_t size, u64 seed) {
    const u8 *s = xxh3_secret;
    u64 h = size * P64_1;
    if (size <= 128) {
        for (size_t i = (size - 1) / 32 + 1; i-- > 0;) {
            h += mix16(in + 16 * i, s + 32 * i, seed);
            h += mix16(in + size - 16 * (i + 1), s + 32 * i + 16, seed);
        }
        return avalanche(h);
    }
    for (size_t i = 0; i < 8; i++)
        h += mix16(in + 16 * i, s + 16 * i, seed);
    h = avalanche(h);
    for (size_t i = 8; i < size / 16; i++)
        h += mix16(in + 16 * i, s + 16 * (i - 8) + 3, seed);
    return avalanche(h + mix16(in + size - 16, s + 136 - 17, seed));
}

static inline void accumulate(u64 acc[8], const u8 *in, const u8 *secret) {
    for (int i = 0; i < 8; i++) {
        u64 value = load64(in + 8 * i), key = value ^ load64(secret + 8 * i);
        acc[i ^ 1] += value;
        acc[i] += (u64)(u32)key * (key >> 32);
    }
}

static u64 xxh3_long(const u8 *in, size_t size, u64 seed) {
    u8 secret[SECRET_BYTES];
    for (int i = 0; i < SECRET_BYTES; i += 16) {
        store64(secret + i, load64(xxh3_secret + i) + seed);
        store64(secret + i + 8, load64(xxh3_secret + i + 8) - seed);
    }
    u64 acc[8] = {P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1};
    size_t stripes = (size - 1) / STRIPE; /* the last one, whole or not, comes by itself */
    for (size_t n = 0; n < stripes; n++) {
        accumulate(acc, in + n * STRIPE, secret + n % BLOCK_STRIPES * 8);
        if (n % BLOCK_STRIPES == BLOCK_STRIPES - 1)
            for (int i = 0; i < 8; i++)
                acc[i] = (acc[i] ^ acc[i] >> 47 ^ load64(secret + SECRET_BYTES - STRIPE + 8 * i)) * P32_1;
    }
    accumulate(acc, in + size - STRIPE, secret + SECRET_BYTES - STRIPE - 7);
    u64 h = size * P64_1;
    for (int i = 0; i < 4; i++)
        h += fold128(acc[2 * i] ^ load64(secret + 11 + 16 * i), acc[2 * i + 1] ^ load64(secret + 19 + 16 * i));
    return avalanche(h);
}

static inline u64 xxh3(const u8 *in, size_t size, u64 seed) {
    return size <= 16 ? xxh3_to_16(in, size, seed) : size <= 240 ? xxh3_to_240(in, size, seed) : xxh3_long(in, size, seed);
}

/* ---- BLAKE2b with 32 bytes of result and no key. */

#define BLAKE_BLOCK 128
#define HASH_BYTES 32

static const u64 blake_start[8] = {
    0x6A09E667F3BCC908ull, 0xBB67AE8584CAA73Bull, 0x3C6EF372FE94F82Bull, 0xA54FF53A5F1D36F1ull,
    0x510E527FADE682D1ull, 0x9B05688C2B3E6C1Full, 0x1F83D9ABFB41BD6Bull, 0x5BE0CD19137E2179ull,
};
static const u8 blake_sigma[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

#define G(r, i, a, b, c, d)                                   \
    a += b + m[blake_sigma[r][2 * (i)]];                      \
    d = rotate_right(d ^ a, 32);                              \
    c += d;                                                   \
    b = rotate_right(b ^ c, 24);                              \
    a += b + m[blake_sigma[r][2 * (i) + 1]];                  \
    d = rotate_right(d ^ a, 16);                              \
    c += d;                                                   \
    b = rotate_right(b ^ c, 63);

#define ROUND(r)                                                                                        \
    G(r, 0, v[0], v[4], v[8], v[12]) G(r, 1, v[1], v[5], v[9], v[13]) G(r, 2, v[2], v[6], v[10], v[14])  \
    G(r, 3, v[3], v[7], v[11], v[15]) G(r, 4, v[0], v[5], v[10], v[15]) G(r, 5, v[1], v[6], v[11], v[12]) \
    G(r, 6, v[2], v[7], v[8], v[13]) G(r, 7, v[3], v[4], v[9], v[14])

static void blake_compress(u64 h[8], const u8 *block, u64 counted, int is_last) {
    u64 m[16], v[16];
    memcpy(m, block, BLAKE_BLOCK);
    memcpy(v, h, 64);
    memcpy(v + 8, blake_start, 64);
    v[12] ^= counted;
    if (is_last)
        v[14] = ~v[14];
    ROUND(0) ROUND(1) ROUND(2) ROUND(3) ROUND(4) ROUND(5) ROUND(6) ROUND(7) ROUND(8) ROUND(9) ROUND(10) ROUND(11)
    for (int i = 0; i < 8; i++)
        h[i] ^= v[i] ^ v[i + 8];
}

/* The first four words of the state are the 32 bytes of the result. */
static void blake2b_256(const u8 *data, size_t size, u64 h[8]) {
    u8 last[BLAKE_BLOCK] = {0};
    size_t done = 0;
    memcpy(h, blake_start, 64);
    h[0] ^= 0x01010000u ^ HASH_BYTES;
    for (; size - done > BLAKE_BLOCK; done += BLAKE_BLOCK)
        blake_compress(h, data + done, done + BLAKE_BLOCK, 0);
    if (size)
        memcpy(last, data + done, size - done);
    blake_compress(h, last, size, 1);
}

/* ---- Arguments. */

static int takes(const char *name, Py_ssize_t given, Py_ssize_t wanted) {
    if (given == wanted)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, not %zd", name, wanted, given);
    return 0;
}

/* An int of 0 to limit, or -1 converted and an error set: ask PyErr_Occurred. */
static u64 number_of(PyObject *object, u64 limit) {
    u64 number = PyLong_AsUnsignedLongLong(object);
    if (number == (u64)-1 && PyErr_Occurred())
        return number;
    if (number > limit) {
        PyErr_Format(PyExc_OverflowError, "a number over %llu", (unsigned long long)limit);
        return (u64)-1;
    }
    return number;
}

/* Opens columns of integers, width[i] bytes each, that must all have one length. Gives that length; or -1, an error set
 * and nothing left open. */
static Py_ssize_t open_columns(PyObject *const *objects, const u8 *width, int count, Py_buffer *columns) {
    Py_ssize_t rows = 0;
    for (int i = 0; i < count; i++) {
        int is_open = PyObject_GetBuffer(objects[i], &columns[i], PyBUF_SIMPLE) == 0;
        if (is_open && i == 0)
            rows = columns[0].len / width[0];
        if (is_open && columns[i].len == rows * width[i])
            continue;
        if (is_open)
            PyErr_Format(PyExc_ValueError, "column %d has %zd bytes, %zd rows of %d were expected", i, columns[i].len, rows,
                         (int)width[i]);
        for (int open = i - !is_open; open >= 0; open--)
            PyBuffer_Release(&columns[open]);
        return -1;
    }
    return rows;
}

static void close_columns(Py_buffer *columns, int count) {
    for (int i = 0; i < count; i++)
        PyBuffer_Release(&columns[i]);
}

static inline u64 at64(const Py_buffer *column, Py_ssize_t row) { return load64((const u8 *)column->buf + 8 * row); }
static inline u32 at32(const Py_buffer *column, Py_ssize_t row) { return load32((const u8 *)column->buf + 4 * row); }
static inline u8 at8(const Py_buffer *column, Py_ssize_t row) { return ((const u8 *)column->buf)[row]; }

static PyObject *outside(Py_ssize_t row) {
    return PyErr_Format(PyExc_ValueError, "row %zd lies outside the blob or is too long", row);
}

/* ---- Checksums by themselves, for the tests that hold them to other implementations. */

static PyObject *kernel_crc32c(PyObject *module, PyObject *object) {
    Py_buffer data;
    if (PyObject_GetBuffer(object, &data, PyBUF_SIMPLE) < 0)
        return NULL;
    u32 crc = crc32c(data.buf, (size_t)data.len), other = ~crc_by_table(0xFFFFFFFFu, data.buf, (size_t)data.len);
    PyBuffer_Release(&data);
    return crc == other ? PyLong_FromUnsignedLong(crc) : PyErr_Format(PyExc_AssertionError, "the two ways differ");
}

static PyObject *kernel_xxh3_64(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Py_buffer data;
    if (!takes("xxh3_64", count, 2))
        return NULL;
    u64 seed = number_of(args[1], UINT64_MAX);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    u64 h = xxh3(data.buf, (size_t)data.len, seed);
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLongLong(h);
}

static PyObject *kernel_blake2b_256(PyObject *module, PyObject *object) {
    Py_buffer data;
    u64 h[8];
    if (PyObject_GetBuffer(object, &data, PyBUF_SIMPLE) < 0)
        return NULL;
    blake2b_256(data.buf, (size_t)data.len, h);
    PyBuffer_Release(&data);
    return PyBytes_FromStringAndSize((const char *)h, HASH_BYTES);
}

/* ---- Sealing. Keys and documents stand in one blob; columns say where. */

/* xxh3 of the collection (u32) and the key; room: 4 + size bytes of scratch. */
static inline u64 key_hash(u8 *room, u32 collection, const u8 *key, size_t size) {
    store32(room, collection);
    memcpy(room + 4, key, size);
    return xxh3(room, 4 + size, 0);
}

static PyObject *kernel_hash_keys(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    enum { AT, KEY_LEN, COLLECTION, COLUMNS };
    static const u8 width[COLUMNS] = {8, 4, 4};
    Py_buffer blob, column[COLUMNS];
    PyObject *result = NULL;
    u8 *room = NULL;
    u32 longest = 0;
    if (!takes("hash_keys", count, 1 + COLUMNS) || PyObject_GetBuffer(args[0], &blob, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_ssize_t rows = open_columns(args + 1, width, COLUMNS, column);
    if (rows < 0)
        goto close_blob;
    for (Py_ssize_t row = 0; row < rows; row++) {
        u32 size = at32(&column[KEY_LEN], row);
        if (!lies_within(at64(&column[AT], row), size, blob.len)) {
            outside(row);
            goto close;
        }
        longest = size > longest ? size : longest;
    }
    room = PyMem_Malloc(4 + (size_t)longest);
    result = room ? PyBytes_FromStringAndSize(NULL, rows * 8) : PyErr_NoMemory();
    if (result) {
        char *out = PyBytes_AS_STRING(result);
        for (Py_ssize_t row = 0; row < rows; row++) {
            const u8 *key = (const u8 *)blob.buf + at64(&column[AT], row);
            store64(out + 8 * row, key_hash(room, at32(&column[COLLECTION], row), key, at32(&column[KEY_LEN], row)));
        }
    }
    PyMem_Free(room);
close:
    close_columns(column, COLUMNS);
close_blob:
    PyBuffer_Release(&blob);
    return result;
}

static PyObject *kernel_fold(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    enum { AT, LENGTH, COLUMNS };
    static const u8 width[COLUMNS] = {8, 4};
    Py_buffer blob, column[COLUMNS];
    PyObject *result = NULL;
    u64 total[4] = {0, 0, 0, 0}, h[8];
    if (!takes("fold", count, 1 + COLUMNS) || PyObject_GetBuffer(args[0], &blob, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_ssize_t rows = open_columns(args + 1, width, COLUMNS, column);
    if (rows < 0)
        goto close_blob;
    for (Py_ssize_t row = 0; row < rows; row++) {
        u64 at = at64(&column[AT], row);
        u32 size = at32(&column[LENGTH], row);
        if (!lies_within(at, size, blob.len)) {
            outside(row);
            goto close;
        }
        blake2b_256((const u8 *)blob.buf + at, size, h);
        unsigned __int128 carry = 0;
        for (int i = 0; i < 4; i++) {
            carry += (unsigned __int128)total[i] + h[i];
            total[i] = (u64)carry;
            carry >>= 64;
        }
    }
    result = PyObject_CallMethod((PyObject *)&PyLong_Type, "from_bytes", "y#s", (const char *)total, (Py_ssize_t)HASH_BYTES,
                                 "little");
close:
    close_columns(column, COLUMNS);
close_blob:
    PyBuffer_Release(&blob);
    return result;
}

#define SHARD_HEADER 40
#define BODY_UNCHECKED 1
#define SHARD_COLUMNS 8
enum { R_OP, R_COLLECTION, R_AT, R_KEY_LEN, R_DOC_LEN, R_SEQ, R_ROW, R_TIME };

static u8 *put_shard_record(u8 *out, const u8 *blob, const Py_buffer *column, Py_ssize_t row, int crc) {
    u32 key_len = at32(&column[R_KEY_LEN], row), doc_len = at32(&column[R_DOC_LEN], row);
    size_t size = (size_t)key_len + doc_len;
    const u8 *body = blob + at64(&column[R_AT], row);
    store32(out + 4, crc ? crc32c(body, size) : 0);
    store32(out + 8, doc_len);
    store16(out + 12, (u16)key_len);
    out[14] = at8(&column[R_OP], row);
    out[15] = crc ? 0 : BODY_UNCHECKED;
    store32(out + 16, at32(&column[R_COLLECTION], row));
    store32(out + 20, at32(&column[R_ROW], row));
    store64(out + 24, at64(&column[R_SEQ], row));
    store64(out + 32, at64(&column[R_TIME], row));
    store32(out, crc32c(out + 4, SHARD_HEADER - 4));
    memcpy(out + SHARD_HEADER, body, size);
    return out + SHARD_HEADER + size;
}

static PyObject *kernel_shard_records(PyObject *module, PyObject *args, PyObject *named) {
    static char *names[] = {"blob", "op", "collection", "at", "key_len", "doc_len", "seq", "row", "time_us", "crc", NULL};
    static const u8 width[SHARD_COLUMNS] = {1, 4, 8, 4, 4, 8, 4, 8};
    PyObject *o[SHARD_COLUMNS], *result = NULL;
    Py_buffer blob, column[SHARD_COLUMNS];
    u64 size = 0;
    int crc = 1;
    if (!PyArg_ParseTupleAndKeywords(args, named, "y*OOOOOOOOp:shard_records", names, &blob, &o[0], &o[1], &o[2], &o[3], &o[4],
                                     &o[5], &o[6], &o[7], &crc))
        return NULL;
    Py_ssize_t rows = open_columns(o, width, SHARD_COLUMNS, column);
    if (rows < 0)
        goto close_blob;
    for (Py_ssize_t row = 0; row < rows; row++) {
        u32 key_len = at32(&column[R_KEY_LEN], row);
        u64 body = (u64)key_len + at32(&column[R_DOC_LEN], row);
        if (key_len > UINT16_MAX || !lies_within(at64(&column[R_AT], row), body, blob.len)) {
            outside(row);
            goto close;
        }
        size += SHARD_HEADER + body;
    }
    result = size > PY_SSIZE_T_MAX ? PyErr_NoMemory() : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (result) {
        u8 *out = (u8 *)PyBytes_AS_STRING(result);
        for (Py_ssize_t row = 0; row < rows; row++)
            out = put_shard_record(out, blob.buf, column, row, crc);
    }
close:
    close_columns(column, SHARD_COLUMNS);
close_blob:
    PyBuffer_Release(&blob);
    return result;
}

#define SHARD_ID_MAX 8192

/* (seq, row, id, document) of the record at `at` in the buffer, when it is whole, sound and a live one of the collection; NULL, and perhaps an
 * error set, when Python shall look. */
static PyObject *live_row(const Py_buffer *buffer, u64 at, u64 collection) {
    if (!lies_within(at, SHARD_HEADER, buffer->len))
        return NULL;
    const u8 *head = (const u8 *)buffer->buf + at, *body = head + SHARD_HEADER;
    u64 doc_len = load32(head + 8), id_len = (u64)head[12] | (u64)head[13] << 8;
    if (crc32c(head + 4, SHARD_HEADER - 4) != load32(head) || head[14] != 1 || load32(head + 16) != collection || id_len > SHARD_ID_MAX)
        return NULL;
    if (!lies_within(at + SHARD_HEADER, id_len + doc_len, buffer->len) || doc_len > 16u * 1024 * 1024)
        return NULL;
    if (!(head[15] & BODY_UNCHECKED) && crc32c(body, id_len + doc_len) != load32(head + 4))
        return NULL;
    return Py_BuildValue("KIy#y#", (unsigned long long)load64(head + 24), (unsigned)load32(head + 20), (const char *)body,
                         (Py_ssize_t)id_len, (const char *)body + id_len, (Py_ssize_t)doc_len);
}

static PyObject *kernel_live_rows(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    static const u8 width[1] = {8};
    Py_buffer buffer, places;
    if (!takes("live_rows", count, 3))
        return NULL;
    u64 collection = number_of(args[2], UINT32_MAX);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &buffer, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_ssize_t rows = open_columns(args + 1, width, 1, &places);
    PyObject *found = rows < 0 ? NULL : PyList_New(0);
    for (Py_ssize_t i = 0; found && i < rows; i++) {
        PyObject *row = live_row(&buffer, at64(&places, i), collection);
        if (!row && !PyErr_Occurred())
            break;
        if (!row || PyList_Append(found, row) < 0)
            Py_CLEAR(found);
        Py_XDECREF(row);
    }
    if (rows >= 0)
        close_columns(&places, 1);
    PyBuffer_Release(&buffer);
    return found;
}

/* ---- Committing. Bodies of commits (commit/codec.py) and the memtable's rows (commit/memtable.py). */

#define ENTRY 12
#define FRAME_HEAD 56
#define CHAINED_AT 4
#define CHAINED_BYTES 44
#define BODY_BYTES_MAX (16u * 1024 * 1024 + 5000u * (ENTRY + 8192u))
#define OP_PUT 1
#define OP_DELETE 2

typedef struct {
    PyObject *op, *collection, *key, *doc; /* borrowed from the tuple */
} Record;

/* A record's parts; 0 and an error set when it is not (int, int, bytes, bytes). */
static int record_of(PyObject *object, Record *record) {
    if (PyTuple_Check(object) && PyTuple_GET_SIZE(object) == 4) {
        record->op = PyTuple_GET_ITEM(object, 0);
        record->collection = PyTuple_GET_ITEM(object, 1);
        record->key = PyTuple_GET_ITEM(object, 2);
        record->doc = PyTuple_GET_ITEM(object, 3);
        if (PyLong_Check(record->op) && PyLong_Check(record->collection) && PyBytes_Check(record->key) &&
            PyBytes_Check(record->doc))
            return 1;
    }
    PyErr_SetString(PyExc_TypeError, "a record is a tuple of op, collection, id (bytes) and document (bytes)");
    return 0;
}

static int put_entry(u8 *out, const Record *record) {
    Py_ssize_t id_len = PyBytes_GET_SIZE(record->key), doc_len = PyBytes_GET_SIZE(record->doc);
    u64 op = number_of(record->op, UINT8_MAX), collection = number_of(record->collection, UINT32_MAX);
    if (PyErr_Occurred())
        return 0;
    if (id_len > UINT16_MAX || doc_len > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "an id or a document is too long for its field");
        return 0;
    }
    out[0] = (u8)op;
    out[1] = 0;
    store16(out + 2, (u16)id_len);
    store32(out + 4, (u32)collection);
    store32(out + 8, (u32)doc_len);
    return 1;
}

static PyObject *kernel_encode_body(PyObject *module, PyObject *given) {
    PyObject *records = PySequence_Tuple(given), *body = NULL; /* a tuple of our own: nobody can change it meanwhile */
    Record record;
    if (!records)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(records), size = count * ENTRY;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!record_of(PyTuple_GET_ITEM(records, i), &record))
            goto done;
        size += PyBytes_GET_SIZE(record.key) + PyBytes_GET_SIZE(record.doc);
    }
    body = PyBytes_FromStringAndSize(NULL, size);
    if (body) {
        u8 *entry = (u8 *)PyBytes_AS_STRING(body), *out = entry + count * ENTRY;
        for (Py_ssize_t i = 0; i < count; i++, entry += ENTRY) {
            if (!record_of(PyTuple_GET_ITEM(records, i), &record) || !put_entry(entry, &record)) {
                Py_CLEAR(body);
                goto done;
            }
            memcpy(out, PyBytes_AS_STRING(record.key), (size_t)PyBytes_GET_SIZE(record.key));
            out += PyBytes_GET_SIZE(record.key);
            memcpy(out, PyBytes_AS_STRING(record.doc), (size_t)PyBytes_GET_SIZE(record.doc));
            out += PyBytes_GET_SIZE(record.doc);
        }
    }
done:
    Py_DECREF(records);
    return body;
}

/* Whether the table of count entries and the bytes behind it are the whole body. */
static int is_whole_body(const u8 *body, Py_ssize_t size, u64 count) {
    if (count > (u64)size / ENTRY)
        return 0;
    u64 total = count * ENTRY;
    for (u64 i = 0; i < count; i++)
        total += (u64)load16(body + i * ENTRY + 2) + load32(body + i * ENTRY + 8);
    return total == (u64)size;
}

static PyObject *decoded_record(PyTypeObject *type, const u8 *entry, const u8 *at, PyObject *collection) {
    PyObject *record = type->tp_alloc(type, 4);
    if (!record)
        return NULL;
    u16 id_len = load16(entry + 2);
    PyTuple_SET_ITEM(record, 0, PyLong_FromLong(entry[0]));
    Py_INCREF(collection);
    PyTuple_SET_ITEM(record, 1, collection);
    PyTuple_SET_ITEM(record, 2, PyBytes_FromStringAndSize((const char *)at, id_len));
    PyTuple_SET_ITEM(record, 3, PyBytes_FromStringAndSize((const char *)at + id_len, load32(entry + 8)));
    if (!PyTuple_GET_ITEM(record, 0) || !PyTuple_GET_ITEM(record, 2) || !PyTuple_GET_ITEM(record, 3))
        Py_CLEAR(record);
    return record;
}

static PyObject *kernel_decode_body(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Py_buffer body;
    PyObject *records = NULL, *collection = NULL;
    if (!takes("decode_body", count, 3))
        return NULL;
    PyTypeObject *type = (PyTypeObject *)args[2];
    if (!PyType_Check(args[2]) || !PyType_IsSubtype(type, &PyTuple_Type) || type == &PyTuple_Type)
        return PyErr_Format(PyExc_TypeError, "records are made of a subclass of tuple");
    u64 rows = number_of(args[0], PY_SSIZE_T_MAX);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[1], &body, PyBUF_SIMPLE) < 0)
        return NULL;
    const u8 *entry = body.buf, *at;
    u32 last = 0;
    if (!is_whole_body(body.buf, body.len, rows)) {
        records = Py_NewRef(Py_None);
        goto done;
    }
    at = entry + rows * ENTRY;
    records = PyList_New(0);
    for (u64 i = 0; records && i < rows; i++, entry += ENTRY) {
        u32 number = load32(entry + 4);
        if (!collection || number != last) {
            Py_XSETREF(collection, PyLong_FromUnsignedLong(number));
            last = number;
        }
        PyObject *record = collection ? decoded_record(type, entry, at, collection) : NULL;
        if (!record || PyList_Append(records, record) < 0)
            Py_CLEAR(records);
        Py_XDECREF(record);
        at += (u64)load16(entry + 2) + load32(entry + 8);
    }
    Py_XDECREF(collection);
done:
    PyBuffer_Release(&body);
    return records;
}

/* The dict of one collection's rows, made when it is missing; a reference of the caller's own. */
static PyObject *table_of(PyObject *rows, PyObject *collection) {
    PyObject *table = PyDict_GetItemWithError(rows, collection);
    if (table) {
        if (PyDict_Check(table))
            return Py_NewRef(table);
        return PyErr_Format(PyExc_TypeError, "a collection's rows are a dict");
    }
    if (PyErr_Occurred() || !(table = PyDict_New()))
        return NULL;
    if (PyDict_SetItem(rows, collection, table) < 0)
        Py_CLEAR(table);
    return table;
}

/* table[key] = (seq, row, op, doc, time_us, table.pop(key, None)): out and in again, so that a table's keys stand in the order of
 * their last writes. */
static int put_version(PyObject *table, const Record *record, PyObject *seq, PyObject *row, PyObject *time_us) {
    PyObject *older = PyDict_GetItemWithError(table, record->key);
    if (!older && PyErr_Occurred())
        return 0;
    int older_is_there = older != NULL;
    older = Py_NewRef(older ? older : Py_None);
    PyObject *version = PyTuple_Pack(6, seq, row, record->op, record->doc, time_us, older);
    Py_DECREF(older);
    if (!version)
        return 0;
    int failed = older_is_there && PyDict_DelItem(table, record->key) < 0;
    failed = failed || PyDict_SetItem(table, record->key, version);
    Py_DECREF(version);
    return !failed;
}

static PyObject *kernel_put_run(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (!takes("put_run", count, 5))
        return NULL;
    PyObject *rows = args[0], *table = NULL, *collection = NULL, *result = NULL;
    if (!PyDict_Check(rows) || !PyLong_Check(args[2]) || !PyLong_Check(args[4]))
        return PyErr_Format(PyExc_TypeError, "put_run() takes a dict, records, and three ints");
    Py_ssize_t first_row = PyLong_AsSsize_t(args[3]), put = 0, size = 0;
    if (first_row == -1 && PyErr_Occurred())
        return NULL;
    PyObject *records = PySequence_Tuple(args[1]);
    if (!records)
        return NULL;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(records); i++) {
        Record record;
        if (!record_of(PyTuple_GET_ITEM(records, i), &record))
            goto done;
        int overflow;
        long op = PyLong_AsLongAndOverflow(record.op, &overflow);
        if (op != OP_PUT && op != OP_DELETE)
            continue;
        if (record.collection != collection) {
            Py_XSETREF(table, table_of(rows, record.collection));
            collection = record.collection;
        }
        PyObject *row = table ? PyLong_FromSsize_t(first_row + i) : NULL;
        int done = row && put_version(table, &record, args[2], row, args[4]);
        Py_XDECREF(row);
        if (!done)
            goto done;
        put++;
        size += PyBytes_GET_SIZE(record.key) + PyBytes_GET_SIZE(record.doc);
    }
    result = Py_BuildValue("nn", put, size);
done:
    Py_XDECREF(table);
    Py_DECREF(records);
    return result;
}

/* How long the sound frame at the head of size bytes is, when it is whole and follows (seq, epoch, chain); else 0.
 * room: scratch of CHAINED_BYTES and the body, since the chain's bytes do not lie side by side. */
static u64 sound_frame(const u8 *frame, u64 size, u64 seq, u64 epoch, u64 chain, u8 **room, size_t *room_size) {
    if (size < FRAME_HEAD || load32(frame) != crc32c(frame + 4, FRAME_HEAD - 4))
        return 0;
    u64 body_len = load32(frame + 8), count = load32(frame + 12);
    if (body_len > BODY_BYTES_MAX || body_len < count * ENTRY || body_len > size - FRAME_HEAD)
        return 0;
    if (load64(frame + 24) != seq || load32(frame + 16) != epoch)
        return 0;
    if (CHAINED_BYTES + body_len > *room_size) {
        size_t wanted = 2 * (CHAINED_BYTES + body_len);
        u8 *larger = PyMem_Realloc(*room, wanted);
        if (!larger) {
            PyErr_NoMemory();
            return 0;
        }
        *room = larger;
        *room_size = wanted;
    }
    memcpy(*room, frame + CHAINED_AT, CHAINED_BYTES);
    memcpy(*room + CHAINED_BYTES, frame + FRAME_HEAD, body_len);
    return xxh3(*room, CHAINED_BYTES + body_len, chain) == load64(frame + 48) ? FRAME_HEAD + body_len : 0;
}

static PyObject *frame_row(const u8 *frame, Py_ssize_t start, Py_ssize_t end) {
    return Py_BuildValue("(kkkkkKKKK)nn", (unsigned long)load32(frame + 4), (unsigned long)load32(frame + 8),
                         (unsigned long)load32(frame + 12), (unsigned long)load32(frame + 16),
                         (unsigned long)load32(frame + 20), (unsigned long long)load64(frame + 24),
                         (unsigned long long)load64(frame + 32), (unsigned long long)load64(frame + 40),
                         (unsigned long long)load64(frame + 48), start, end);
}

static PyObject *kernel_frames(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Py_buffer data;
    u8 *room = NULL;
    size_t room_size = 0;
    if (!takes("frames", count, 6))
        return NULL;
    u64 at = number_of(args[1], PY_SSIZE_T_MAX), seq = PyErr_Occurred() ? 0 : number_of(args[2], UINT64_MAX);
    u64 epoch = PyErr_Occurred() ? 0 : number_of(args[3], UINT32_MAX);
    u64 chain = PyErr_Occurred() ? 0 : number_of(args[4], UINT64_MAX);
    u64 limit = PyErr_Occurred() ? 0 : number_of(args[5], PY_SSIZE_T_MAX);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    u64 size = (u64)data.len, start = at;
    PyObject *rows = PyList_New(0);
    while (rows && at < size && at - start < limit && seq < UINT64_MAX) {
        const u8 *frame = (const u8 *)data.buf + at;
        u64 length = sound_frame(frame, size - at, seq + 1, epoch, chain, &room, &room_size);
        if (!length) {
            if (PyErr_Occurred())
                Py_CLEAR(rows);
            break;
        }
        PyObject *row = frame_row(frame, (Py_ssize_t)at, (Py_ssize_t)(at + length));
        if (!row || PyList_Append(rows, row) < 0)
            Py_CLEAR(rows);
        Py_XDECREF(row);
        seq++;
        chain = load64(frame + 48);
        at += length;
    }
    PyMem_Free(room);
    PyBuffer_Release(&data);
    return rows ? Py_BuildValue("NKK", rows, (unsigned long long)at, (unsigned long long)chain) : NULL;
}

/* ---- MessagePack from anybody: one token after the other, nothing believed that is not there. */

typedef struct {
    const u8 *at, *end;
} Reader;

typedef enum { NIL, BOOL, INT, FLOAT, TEXT, BIN, ARRAY, MAP, EXT } Kind;

typedef struct {
    Kind kind;
    int8_t code;    /* of an EXT */
    int64_t number; /* of an INT or BOOL */
    u64 size;       /* bytes of TEXT, BIN and EXT; elements of ARRAY, pairs of MAP */
    const u8 *data; /* of TEXT, BIN and EXT: all there, and the reader is past it */
} Token;

static inline u64 left(const Reader *r) { return (u64)(r->end - r->at); }

static inline int take_number(Reader *r, u64 bytes, u64 *value) {
    if (left(r) < bytes)
        return 0;
    *value = 0;
    for (u64 i = 0; i < bytes; i++)
        *value = *value << 8 | r->at[i];
    r->at += bytes;
    return 1;
}

static inline int take_payload(Reader *r, Token *t) {
    if (left(r) < t->size)
        return 0;
    t->data = r->at;
    r->at += t->size;
    return 1;
}

static int take_extension(Reader *r, Token *t) {
    u64 code;
    t->kind = EXT;
    if (!take_number(r, 1, &code))
        return 0;
    t->code = (int8_t)code;
    return take_payload(r, t);
}

/* A token that begins with a byte of 0xC0 to 0xDF. */
static int take_long_token(Reader *r, u8 first, Token *t) {
    u64 value;
    switch (first) {
    case 0xC0:
        t->kind = NIL;
        return 1;
    case 0xC2: case 0xC3:
        t->kind = BOOL;
        t->number = first & 1;
        return 1;
    case 0xC4: case 0xC5: case 0xC6:
        t->kind = BIN;
        return take_number(r, 1u << (first - 0xC4), &t->size) && take_payload(r, t);
    case 0xC7: case 0xC8: case 0xC9:
        return take_number(r, 1u << (first - 0xC7), &t->size) && take_extension(r, t);
    case 0xCA: case 0xCB:
        t->kind = FLOAT;
        return take_number(r, first == 0xCA ? 4 : 8, &value);
    case 0xCC: case 0xCD: case 0xCE: case 0xCF:
        t->kind = INT;
        if (!take_number(r, 1u << (first - 0xCC), &value) || value > INT64_MAX)
            return 0;
        t->number = (int64_t)value;
        return 1;
    case 0xD0: case 0xD1: case 0xD2: case 0xD3: {
        int unused = 64 - (8 << (first - 0xD0));
        t->kind = INT;
        if (!take_number(r, 1u << (first - 0xD0), &value))
            return 0;
        t->number = (int64_t)(value << unused) >> unused;
        return 1;
    }
    case 0xD4: case 0xD5: case 0xD6: case 0xD7: case 0xD8:
        t->size = 1u << (first - 0xD4);
        return take_extension(r, t);
    case 0xD9: case 0xDA: case 0xDB:
        t->kind = TEXT;
        return take_number(r, 1u << (first - 0xD9), &t->size) && take_payload(r, t);
    case 0xDC: case 0xDD:
        t->kind = ARRAY;
        return take_number(r, first == 0xDC ? 2 : 4, &t->size);
    case 0xDE: case 0xDF:
        t->kind = MAP;
        return take_number(r, first == 0xDE ? 2 : 4, &t->size);
    }
    return 0;
}

/* The next token; 0 when there is none, it is cut short, or its integer does not fit 63 bits and a sign. */
static inline int take_token(Reader *r, Token *t) {
    if (r->at == r->end)
        return 0;
    u8 first = *r->at++;
    if (first < 0x80 || first >= 0xE0) {
        t->kind = INT;
        t->number = (int8_t)first;
        return 1;
    }
    if (first >= 0xC0)
        return take_long_token(r, first, t);
    if (first >= 0xA0) {
        t->kind = TEXT;
        t->size = first & 0x1F;
        return take_payload(r, t);
    }
    t->kind = first < 0x90 ? MAP : ARRAY;
    t->size = first & 0x0F;
    return 1;
}

/* ---- Documents (values/documents.py). What is not seen to be sound at once is left to Python, right or wrong. */

#define DOCUMENT_BYTES_MAX (16 * 1024 * 1024)
#define KEY_BYTES_MAX 8192
#define DEPTH_MAX 100
#define PAIRS_MAX 24 /* keys of one map, each compared with all before it */

/* Extension types by code, as values/extensions.py lists them; a regex is left to Python. */
static int is_sound_extension(const Token *t) {
    switch (t->code) {
    case 1: case 5:
        return t->size == 8;
    case 2:
        return t->size == 12;
    case 3: case 4:
        return t->size == 16;
    case 7: case 8:
        return t->size == 0;
    case 9:
        return t->size > 0 && t->data[0] != 0 && !(t->data[0] == 4 && t->size == 17);
    case 10:
        return is_utf8(t->data, t->data + t->size);
    }
    return 0;
}

static int is_sound_value(Reader *r, int depth);

/* depth: of this map, 1 for the document itself. */
static int are_sound_pairs(Reader *r, u64 count, int depth) {
    Token keys[PAIRS_MAX];
    if (count > PAIRS_MAX)
        return 0;
    for (u64 i = 0; i < count; i++) {
        Token *key = &keys[i];
        if (!take_token(r, key) || key->kind != TEXT || !is_utf8(key->data, key->data + key->size))
            return 0;
        if (key->size && (memchr(key->data, 0, key->size) || (depth == 1 && key->data[0] == '$')))
            return 0;
        for (u64 j = 0; j < i; j++)
            if (keys[j].size == key->size && memcmp(keys[j].data, key->data, key->size) == 0)
                return 0;
        if (!is_sound_value(r, depth))
            return 0;
    }
    return 1;
}

/* depth: of the map or array around the value. */
static int is_sound_value(Reader *r, int depth) {
    Token t;
    if (!take_token(r, &t))
        return 0;
    switch (t.kind) {
    case NIL: case BOOL: case INT: case FLOAT: case BIN:
        return 1;
    case TEXT:
        return is_utf8(t.data, t.data + t.size);
    case EXT:
        return is_sound_extension(&t);
    case MAP:
        return depth < DEPTH_MAX && are_sound_pairs(r, t.size, depth + 1);
    case ARRAY:
        if (depth >= DEPTH_MAX)
            return 0;
        for (u64 i = 0; i < t.size; i++)
            if (!is_sound_value(r, depth + 1))
                return 0;
        return 1;
    }
    return 0;
}

/* Whether an `_id` is of a kind whose key is made here: an int, an ObjectId, text whose key is not too long. */
static int is_usual_id(const Token *id) {
    return id->kind == INT || (id->kind == EXT && id->code == 2 && id->size == 12) ||
           (id->kind == TEXT && id->size < KEY_BYTES_MAX && is_utf8(id->data, id->data + id->size));
}

/* Whether the reader stands before a sound document with a usual `_id`; it is past it then. */
static int take_document(Reader *r, Token *id) {
    const u8 *start = r->at;
    Token t;
    if (!take_token(r, &t) || t.kind != MAP || !t.size)
        return 0;
    Reader first = *r;
    if (left(&first) < 4 || memcmp(first.at, "\xA3_id", 4) != 0)
        return 0;
    first.at += 4;
    return take_token(&first, id) && is_usual_id(id) && are_sound_pairs(r, t.size, 1) && r->at - start <= DOCUMENT_BYTES_MAX;
}

static u8 *put_big(u8 *out, u64 value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--)
        *out++ = (u8)(value >> 8 * i);
    return out;
}

#define NUMBER_BYTES_MAX 9

/* MessagePack's shortest form of value, or of (int64_t)value when it is_signed. Gives where it ends. */
static u8 *put_number(u8 *out, u64 value, int is_signed) {
    static const u8 head[2][4] = {{0xCC, 0xCD, 0xCE, 0xCF}, {0xD0, 0xD1, 0xD2, 0xD3}};
    int is_negative = is_signed && (int64_t)value < 0;
    u64 wide = is_negative ? ~value : value; /* a negative number fits 8 × 2^size bits when its complement fits one less */
    if (wide < (is_negative ? 32 : 128))
        return put_big(out, value, 1);
    int size = 0;
    while (size < 3 && wide >> ((8 << size) - is_negative))
        size++;
    *out++ = head[is_negative][size];
    return put_big(out, value, 1 << size);
}

/* The canonical key (values/keys.py) of a usual id. */
static PyObject *key_of(const Token *id) {
    u64 size = id->kind == INT ? 8 : id->size;
    PyObject *key = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(1 + size));
    if (!key)
        return NULL;
    u8 *out = (u8 *)PyBytes_AS_STRING(key);
    *out++ = id->kind == INT ? 0x11 : id->kind == TEXT ? 0x20 : 0x50;
    if (id->kind == INT)
        put_big(out, (u64)id->number + (1ull << 63), 8);
    else
        memcpy(out, id->data, size);
    return key;
}

/* A usual id as documents.encode_value writes it, whatever the width it came in. */
static PyObject *encoded_id(const Token *id) {
    u8 head[NUMBER_BYTES_MAX], *out = head;
    u64 size = id->kind == INT ? 0 : id->size;
    if (id->kind == INT)
        out = put_number(head, (u64)id->number, 1);
    else if (id->kind == EXT)
        out = put_big(head, 0xC70C02, 3);
    else if (size < 32)
        out = put_big(head, 0xA0 | size, 1);
    else if (size < 256)
        out = put_big(head, 0xD900 | size, 2);
    else
        out = put_big(head, 0xDA0000 | size, 3); /* is_usual_id bounds it */
    PyObject *encoded = PyBytes_FromStringAndSize(NULL, (out - head) + (Py_ssize_t)size);
    if (encoded) {
        memcpy(PyBytes_AS_STRING(encoded), head, (size_t)(out - head));
        if (size)
            memcpy(PyBytes_AS_STRING(encoded) + (out - head), id->data, size);
    }
    return encoded;
}

/* A tuple of the parts, whose references it takes; NULL when one of them is NULL. */
static PyObject *tuple_of(PyObject **parts, int count) {
    int whole = 1;
    for (int i = 0; i < count; i++)
        whole &= parts[i] != NULL;
    PyObject *tuple = whole ? PyTuple_New(count) : NULL;
    for (int i = 0; i < count; i++) {
        if (tuple)
            PyTuple_SET_ITEM(tuple, i, parts[i]);
        else
            Py_XDECREF(parts[i]);
    }
    return tuple;
}

/* A list of what `each` makes of every item; `each` gives a new reference, or NULL with an error set. */
static PyObject *mapped(PyObject *module, PyObject *given, PyObject *(*each)(PyObject *module, PyObject *item)) {
    PyObject *items = PySequence_Tuple(given);
    PyObject *found = items ? PyList_New(0) : NULL;
    for (Py_ssize_t i = 0; found && i < PyTuple_GET_SIZE(items); i++) {
        PyObject *made = each(module, PyTuple_GET_ITEM(items, i));
        if (!made || PyList_Append(found, made) < 0)
            Py_CLEAR(found);
        Py_XDECREF(made);
    }
    Py_XDECREF(items);
    return found;
}

static PyObject *prepared(PyObject *module, PyObject *doc) {
    Token id;
    if (!PyBytes_CheckExact(doc))
        return Py_NewRef(Py_None);
    const u8 *data = (u8 *)PyBytes_AS_STRING(doc);
    Reader r = {data, data + PyBytes_GET_SIZE(doc)};
    if (!take_document(&r, &id) || r.at != r.end)
        return Py_NewRef(Py_None);
    PyObject *parts[] = {key_of(&id), encoded_id(&id), Py_NewRef(doc)};
    return tuple_of(parts, 3);
}

static PyObject *kernel_prepare(PyObject *module, PyObject *docs) { return mapped(module, docs, prepared); }

/* ---- Requests and replies of the client port (node/quick.py). */

#define NAME_BYTES_MAX 512
#define WRITE_ID_BYTES_MAX 64
enum { QUICK_INSERT = 1, QUICK_GET, QUICK_PING };

typedef struct {
    PyObject *db, *collection; /* the names last seen: most requests name the same ones */
} State;

/* The name as a str, the one kept in *last when it is the same. */
static PyObject *name_of(PyObject **last, const Token *name) {
    if (*last) {
        Py_ssize_t size;
        const char *text = PyUnicode_AsUTF8AndSize(*last, &size);
        if (!text)
            return NULL;
        if ((u64)size == name->size && memcmp(text, name->data, name->size) == 0)
            return Py_NewRef(*last);
    }
    PyObject *made = PyUnicode_DecodeUTF8((const char *)name->data, (Py_ssize_t)name->size, NULL);
    if (made)
        Py_XSETREF(*last, Py_NewRef(made));
    return made;
}

static int take_name(Reader *r, Token *name) {
    return take_token(r, name) && name->kind == TEXT && name->size <= NAME_BYTES_MAX && is_utf8(name->data, name->data + name->size);
}

static int is_text(const Token *t, const char *text) {
    return t->kind == TEXT && t->size == strlen(text) && memcmp(t->data, text, t->size) == 0;
}

static PyObject *bytes_of(const u8 *data, u64 size) {
    return PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)size);
}

/* The rest of an insert: [docs, ordered, request], the last two perhaps left out. */
static int take_insert(Reader *r, u64 fields, Token *id, Reader *doc, Token *write_id) {
    Token t;
    if (!take_token(r, &t) || t.kind != ARRAY || t.size != 1)
        return 0;
    doc->at = r->at;
    if (!take_document(r, id))
        return 0;
    doc->end = r->at;
    write_id->size = 0;
    if (fields > 1 && (!take_token(r, &t) || t.kind != BOOL))
        return 0;
    if (fields > 2 && (!take_token(r, write_id) || write_id->kind != BIN || write_id->size > WRITE_ID_BYTES_MAX))
        return 0;
    return r->at == r->end;
}

/* The request as a tuple, or NULL: with an error set, or without one for anything that is not of a quick form. */
static PyObject *quick_request(State *state, const u8 *data, u64 size) {
    Reader r = {data, data + size}, rid, doc;
    Token t, op, db, collection, id, write_id = {.kind = BIN, .data = data};
    if (!take_token(&r, &t) || t.kind != ARRAY || t.size < 2 || !take_token(&r, &op))
        return NULL;
    u64 fields = t.size - 2;
    rid.at = r.at;
    if (!take_token(&r, &t) || t.kind != INT || !(*rid.at < 0x80 || (*rid.at >= 0xCC && *rid.at <= 0xCF)))
        return NULL;
    rid.end = r.at;
    if (is_text(&op, "ping") && fields == 0 && r.at == r.end) {
        PyObject *parts[] = {PyLong_FromLong(QUICK_PING), bytes_of(rid.at, left(&rid))};
        return tuple_of(parts, 2);
    }
    int is_insert = is_text(&op, "insert");
    if (!(is_insert || is_text(&op, "get")) || fields < 3 || fields > (is_insert ? 5 : 4))
        return NULL;
    if (!take_name(&r, &db) || !take_name(&r, &collection))
        return NULL;
    if (!is_insert) {
        if (!take_token(&r, &id) || !is_usual_id(&id) || (fields > 3 && (!take_token(&r, &t) || t.kind != NIL)))
            return NULL;
        if (r.at != r.end)
            return NULL;
        PyObject *parts[] = {PyLong_FromLong(QUICK_GET), bytes_of(rid.at, left(&rid)), name_of(&state->db, &db),
                             name_of(&state->collection, &collection), key_of(&id)};
        return tuple_of(parts, 5);
    }
    if (!take_insert(&r, fields - 2, &id, &doc, &write_id))
        return NULL;
    PyObject *parts[] = {PyLong_FromLong(QUICK_INSERT), bytes_of(rid.at, left(&rid)), name_of(&state->db, &db),
                         name_of(&state->collection, &collection), bytes_of(write_id.data, write_id.size), key_of(&id),
                         encoded_id(&id), bytes_of(doc.at, left(&doc))};
    return tuple_of(parts, 8);
}

static PyObject *quick_or_none(PyObject *module, PyObject *message) {
    PyObject *found = NULL;
    if (PyBytes_CheckExact(message))
        found = quick_request(PyModule_GetState(module), (u8 *)PyBytes_AS_STRING(message), (u64)PyBytes_GET_SIZE(message));
    return found || PyErr_Occurred() ? found : Py_NewRef(Py_None);
}

static PyObject *kernel_requests(PyObject *module, PyObject *messages) { return mapped(module, messages, quick_or_none); }

typedef struct {
    const void *data;
    size_t size;
} Piece;

/* One frame: the length of the pieces (u32) and the pieces. */
static PyObject *framed(const Piece *pieces, int count) {
    u64 size = 0;
    for (int i = 0; i < count; i++)
        size += pieces[i].size;
    if (size > UINT32_MAX)
        return PyErr_Format(PyExc_ValueError, "a message of %llu bytes is too long", (unsigned long long)size);
    PyObject *frame = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(4 + size));
    if (!frame)
        return NULL;
    u8 *out = (u8 *)PyBytes_AS_STRING(frame);
    store32(out, (u32)size);
    out += 4;
    for (int i = 0; i < count; i++) {
        memcpy(out, pieces[i].data, pieces[i].size);
        out += pieces[i].size;
    }
    return frame;
}

#define LITERAL(text) {text, sizeof(text) - 1}
#define REPLY LITERAL("\x95\xA5reply")

static int piece_of(PyObject *bytes, Piece *piece) {
    if (!PyBytes_Check(bytes)) {
        PyErr_SetString(PyExc_TypeError, "request ids, ids and documents are bytes");
        return 0;
    }
    *piece = (Piece){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
    return 1;
}

/* The position that ends every reply; 0 and an error set when epoch or seq is not one. */
static int put_position(u8 *out, PyObject *epoch, PyObject *seq, Piece *piece) {
    u64 first = number_of(epoch, UINT64_MAX), second = PyErr_Occurred() ? 0 : number_of(seq, UINT64_MAX);
    if (PyErr_Occurred())
        return 0;
    *piece = (Piece){out, (size_t)(put_number(put_number(out, first, 0), second, 0) - out)};
    return 1;
}

static PyObject *kernel_insert_replies(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    u8 room[2 * NUMBER_BYTES_MAX];
    Piece pieces[] = {REPLY, {0}, LITERAL("\x83\xA1n\x01\xA3ids\x91"), {0}, LITERAL("\xA6" "errors\x90"), {0}};
    PyObject *rids = NULL, *ids = NULL, *replies = NULL;
    if (!takes("insert_replies", count, 4) || !put_position(room, args[2], args[3], &pieces[5]))
        return NULL;
    rids = PySequence_Tuple(args[0]);
    ids = rids ? PySequence_Tuple(args[1]) : NULL;
    if (ids && PyTuple_GET_SIZE(ids) == PyTuple_GET_SIZE(rids))
        replies = PyList_New(0);
    else if (ids)
        PyErr_SetString(PyExc_ValueError, "there are not as many ids as requests");
    for (Py_ssize_t i = 0; replies && i < PyTuple_GET_SIZE(ids); i++) {
        PyObject *reply = NULL;
        if (piece_of(PyTuple_GET_ITEM(rids, i), &pieces[1]) && piece_of(PyTuple_GET_ITEM(ids, i), &pieces[3]))
            reply = framed(pieces, 6);
        if (!reply || PyList_Append(replies, reply) < 0)
            Py_CLEAR(replies);
        Py_XDECREF(reply);
    }
    Py_XDECREF(rids);
    Py_XDECREF(ids);
    return replies;
}

static PyObject *kernel_got_reply(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    u8 room[2 * NUMBER_BYTES_MAX];
    Piece pieces[] = {REPLY, {0}, LITERAL("\x81\xA3" "doc"), LITERAL("\xC0"), {0}};
    if (!takes("got_reply", count, 4) || !piece_of(args[0], &pieces[1]) || !put_position(room, args[2], args[3], &pieces[4]))
        return NULL;
    if (args[1] != Py_None && !piece_of(args[1], &pieces[3]))
        return NULL;
    return framed(pieces, 5);
}

/* ---- The filter of keys (index/keyfilter.py): which keys are surely not there.
 *
 * Blocks of 64 bytes; a key's hash names one block by its upper half and six bits of it by a product of the whole hash, so
 * that a question touches one line of memory. 12 bits a key give about 0.4 % false positives at capacity. */

#define BLOCK_BYTES 64
#define BITS_A_KEY 12
#define PROBES 6
#define CAPACITY_MAX (1u << 30) /* 1.5 GiB of blocks */
#define AT_ONCE 32

typedef struct {
    PyObject_HEAD
    u8 *held; /* as allocated */
    u8 *blocks; /* on a boundary of BLOCK_BYTES */
    u64 block_count;
    long long capacity, count, bytes;
    int is_adding;
} KeyFilter;

static inline u8 *block_of(const KeyFilter *filter, u64 hash) {
    return filter->blocks + (hash >> 32) * filter->block_count / (1ull << 32) * BLOCK_BYTES;
}

static inline u64 probes_of(u64 hash) { return hash * P64_1 >> (64 - 9 * PROBES); }

static PyObject *filter_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    static char *names[] = {"capacity", NULL};
    long long capacity;
    if (!PyArg_ParseTupleAndKeywords(args, named, "L:KeyFilter", names, &capacity))
        return NULL;
    if (capacity < 1 || capacity > CAPACITY_MAX)
        return PyErr_Format(PyExc_ValueError, "a filter holds 1 to %u keys, not %lld", CAPACITY_MAX, capacity);
    KeyFilter *filter = (KeyFilter *)type->tp_alloc(type, 0);
    if (!filter)
        return NULL;
    filter->capacity = capacity;
    filter->block_count = ((u64)capacity * BITS_A_KEY + BLOCK_BYTES * 8 - 1) / (BLOCK_BYTES * 8);
    filter->bytes = (long long)filter->block_count * BLOCK_BYTES;
    filter->held = PyMem_RawCalloc((size_t)filter->bytes + BLOCK_BYTES, 1);
    if (!filter->held) {
        Py_DECREF(filter);
        return PyErr_NoMemory();
    }
    filter->blocks = filter->held + (BLOCK_BYTES - (uintptr_t)filter->held % BLOCK_BYTES) % BLOCK_BYTES;
    return (PyObject *)filter;
}

static void filter_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyMem_RawFree(((KeyFilter *)self)->held);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *filter_add(PyObject *self, PyObject *hashes) {
    KeyFilter *filter = (KeyFilter *)self;
    static const u8 width[1] = {8};
    Py_buffer column;
    Py_ssize_t rows = open_columns(&hashes, width, 1, &column);
    if (rows < 0)
        return NULL;
    if (filter->is_adding) { /* two at once would lose bits */
        PyBuffer_Release(&column);
        PyErr_SetString(PyExc_RuntimeError, "another thread is adding to this filter");
        return NULL;
    }
    filter->is_adding = 1;
    Py_BEGIN_ALLOW_THREADS /* may_hold meanwhile sees a key of this call or not, and every key of those before */
    for (Py_ssize_t row = 0; row < rows; row++) {
        u64 hash = at64(&column, row), probes = probes_of(hash);
        u8 *block = block_of(filter, hash);
        if (row + AT_ONCE / 2 < rows)
            __builtin_prefetch(block_of(filter, at64(&column, row + AT_ONCE / 2)), 1);
        for (int i = 0; i < PROBES; i++, probes >>= 9)
            block[(probes & 511) >> 3] |= (u8)(1 << (probes & 7));
    }
    Py_END_ALLOW_THREADS
    filter->is_adding = 0;
    filter->count += rows;
    PyBuffer_Release(&column);
    Py_RETURN_NONE;
}

static inline int may_hold(const KeyFilter *filter, u64 hash) {
    const u8 *block = block_of(filter, hash);
    u64 probes = probes_of(hash);
    int all = 1;
    for (int i = 0; i < PROBES; i++, probes >>= 9)
        all &= block[(probes & 511) >> 3] >> (probes & 7);
    return all & 1;
}

static PyObject *filter_may_hold(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    KeyFilter *filter = (KeyFilter *)self;
    u8 room[4 + KEY_BYTES_MAX];
    u64 hashes[AT_ONCE];
    if (!takes("may_hold", count, 2))
        return NULL;
    u64 collection = number_of(args[0], UINT32_MAX);
    PyObject *keys = PyErr_Occurred() ? NULL : PySequence_Tuple(args[1]);
    if (!keys)
        return NULL;
    Py_ssize_t rows = PyTuple_GET_SIZE(keys);
    PyObject *answers = PyBytes_FromStringAndSize(NULL, rows);
    for (Py_ssize_t start = 0; answers && start < rows; start += AT_ONCE) {
        Py_ssize_t some = rows - start < AT_ONCE ? rows - start : AT_ONCE;
        for (Py_ssize_t i = 0; answers && i < some; i++) {
            PyObject *key = PyTuple_GET_ITEM(keys, start + i);
            if (!PyBytes_Check(key) || PyBytes_GET_SIZE(key) > KEY_BYTES_MAX) {
                PyErr_SetString(PyExc_ValueError, "a key is bytes, 8,192 at most");
                Py_CLEAR(answers);
            } else {
                hashes[i] = key_hash(room, (u32)collection, (u8 *)PyBytes_AS_STRING(key), (size_t)PyBytes_GET_SIZE(key));
                __builtin_prefetch(block_of(filter, hashes[i]));
            }
        }
        for (Py_ssize_t i = 0; answers && i < some; i++)
            PyBytes_AS_STRING(answers)[start + i] = (char)may_hold(filter, hashes[i]);
    }
    Py_DECREF(keys);
    return answers;
}

static PyMethodDef filter_methods[] = {
    {"add", filter_add, METH_O, NULL},
    {"may_hold", (PyCFunction)(void (*)(void))filter_may_hold, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef filter_members[] = {
    {"capacity", T_LONGLONG, offsetof(KeyFilter, capacity), READONLY, NULL},
    {"count", T_LONGLONG, offsetof(KeyFilter, count), READONLY, NULL},
    {"bytes", T_LONGLONG, offsetof(KeyFilter, bytes), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot filter_slots[] = {
    {Py_tp_new, filter_new},         {Py_tp_dealloc, filter_dealloc}, {Py_tp_methods, filter_methods},
    {Py_tp_members, filter_members}, {0, NULL},
};

static PyType_Spec filter_spec = {
    .name = "storage._kernel.KeyFilter",
    .basicsize = sizeof(KeyFilter),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = filter_slots,
};

/* ---- The module. */

#ifndef KERNEL_SOURCE /* zlib's crc32 of this file, by setup.py: so that a test can tell a kernel that was not built again */
#define KERNEL_SOURCE 0u
#endif

#define FAST(name) {#name, (PyCFunction)(void (*)(void))kernel_##name, METH_FASTCALL, NULL}

static PyMethodDef kernel_functions[] = {
    {"crc32c", kernel_crc32c, METH_O, NULL},
    FAST(xxh3_64),
    {"blake2b_256", kernel_blake2b_256, METH_O, NULL},
    FAST(hash_keys),
    FAST(fold),
    {"shard_records", (PyCFunction)(void (*)(void))kernel_shard_records, METH_VARARGS | METH_KEYWORDS, NULL},
    FAST(live_rows),
    {"encode_body", kernel_encode_body, METH_O, NULL},
    FAST(decode_body),
    FAST(put_run),
    FAST(frames),
    {"prepare", kernel_prepare, METH_O, NULL},
    {"requests", kernel_requests, METH_O, NULL},
    FAST(insert_replies),
    FAST(got_reply),
    {NULL, NULL, 0, NULL},
};

static int kernel_make(PyObject *module) {
    choose_crc();
    PyObject *filter = PyType_FromModuleAndSpec(module, &filter_spec, NULL);
    int failed = !filter || PyModule_AddType(module, (PyTypeObject *)filter) < 0;
    Py_XDECREF(filter);
    PyObject *source = PyLong_FromUnsignedLong(KERNEL_SOURCE);
    failed = failed || !source || PyModule_AddObjectRef(module, "SOURCE", source) < 0;
    Py_XDECREF(source);
    return failed ? -1 : 0;
}

static int kernel_traverse(PyObject *module, visitproc visit, void *arg) {
    State *state = PyModule_GetState(module);
    Py_VISIT(state->db);
    Py_VISIT(state->collection);
    return 0;
}

static int kernel_clear(PyObject *module) {
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->db);
    Py_CLEAR(state->collection);
    return 0;
}

static void kernel_free(void *module) { kernel_clear(module); }

static PyModuleDef_Slot kernel_slots[] = {{Py_mod_exec, kernel_make}, {0, NULL}};

static struct PyModuleDef kernel_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "storage._kernel",
    .m_doc = "The native kernel of storage; see storage/kernel.c.",
    .m_size = sizeof(State),
    .m_methods = kernel_functions,
    .m_slots = kernel_slots,
    .m_traverse = kernel_traverse,
    .m_clear = kernel_clear,
    .m_free = kernel_free,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&kernel_module); }
