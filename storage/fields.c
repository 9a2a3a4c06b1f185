/* The native part of the field index: the inner loops of building and merging its columns, over plain bytes. Optional.
 *
 * Built as storage._fields when a compiler is there and chosen by storage/native.py. Every function has a pure twin in the
 * module whose promise it keeps; tests/fields/test_fields_kernel.py holds the two equal:
 *
 *     storage/fields/extract.py       walk, reach      documents to entries
 *     storage/fields/distinct.py      rank_keys, rank_strings, join_strings, merge_keys, merge_strings, group
 *     storage/plan/tallies.py         tally, weigh     rows of a query to groups
 *
 * Numbers are native little-endian, documents MessagePack. Every length that comes in is checked before a byte behind it is
 * read. Loops run with the interpreter released: buffers are held meanwhile, and nobody writes to what is being indexed.
 *
 * Hash tables are seeded from the interpreter's secret, so that nobody can choose keys that collide. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if !defined(__GNUC__) || !defined(__SIZEOF_INT128__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernel is for GCC or Clang on a 64-bit little-endian machine; elsewhere the pure functions serve"
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

static inline u32 load32(const void *at) { u32 v; memcpy(&v, at, 4); return v; }
static inline u64 load64(const void *at) { u64 v; memcpy(&v, at, 8); return v; }
static inline u16 big16(const void *at) { u16 v; memcpy(&v, at, 2); return __builtin_bswap16(v); }
static inline u32 big32(const void *at) { return __builtin_bswap32(load32(at)); }
static inline u64 big64(const void *at) { return __builtin_bswap64(load64(at)); }

/* What a loop without the interpreter can end with. */
enum { FINE, NO_MEMORY, OUTSIDE, TOO_MANY };

static PyObject *failed(int how) {
    if (how == NO_MEMORY)
        return PyErr_NoMemory();
    PyErr_SetString(PyExc_ValueError, how == OUTSIDE ? "a row lies outside what was given, or is no document"
                                                     : "a column can hold no more than 2^32 - 1 entries");
    return NULL;
}

static int takes(const char *name, Py_ssize_t given, Py_ssize_t wanted) {
    if (given == wanted)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, not %zd", name, wanted, given);
    return 0;
}

/* ---- Arguments: buffers that are opened together and closed together. */

#define BUFFERS_MAX 6

typedef struct {
    Py_buffer view[BUFFERS_MAX];
    int count;
} Buffers;

static void close_all(Buffers *open) {
    while (open->count)
        PyBuffer_Release(&open->view[--open->count]);
}

/* Opens one more; NULL with an error set and all closed when it cannot. An array of width must have whole elements. */
static Py_buffer *open_one(Buffers *open, PyObject *object, Py_ssize_t width) {
    Py_buffer *view = &open->view[open->count];
    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) == 0) {
        open->count++;
        if (view->len % width == 0)
            return view;
        PyErr_Format(PyExc_ValueError, "a column of %zd bytes has no whole number of elements of %zd", view->len, width);
    }
    close_all(open);
    return NULL;
}

static PyObject *unequal(Buffers *open) {
    close_all(open);
    PyErr_SetString(PyExc_ValueError, "columns of one table must have one length");
    return NULL;
}

/* ---- Hashing. */

static u64 secret[2];

static inline u64 fold(u64 a, u64 b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (u64)product ^ (u64)(product >> 64);
}

static inline u64 hash_pair(u64 high, u64 low) {
    return fold(high ^ secret[0], fold(low ^ secret[1], 0x9E3779B97F4A7C15ull) ^ secret[1]);
}

static inline u64 hash_bytes(const u8 *data, size_t size) {
    u64 h = secret[0] ^ size;
    for (; size > 16; data += 16, size -= 16)
        h = fold(load64(data) ^ secret[1], load64(data + 8) ^ h);
    u64 a = 0, b = 0;
    if (size >= 8) {
        a = load64(data);
        b = load64(data + size - 8);
    } else if (size >= 4) {
        a = load32(data);
        b = load32(data + size - 4);
    } else if (size) {
        a = (u64)data[0] << 16 | (u64)data[size >> 1] << 8 | data[size - 1];
    }
    return hash_pair(a ^ h, b);
}

/* ---- Sorting: by a key of 64 bits, eight bits at a time from the low end; passes in which all agree are left out. */

typedef struct {
    u64 key;
    u32 id;
} Item;

#define FEW 32

static void sort_few(Item *items, size_t count) {
    for (size_t i = 1; i < count; i++) {
        Item item = items[i];
        size_t j = i;
        for (; j && items[j - 1].key > item.key; j--)
            items[j] = items[j - 1];
        items[j] = item;
    }
}

/* Stable. room: as many items again. */
static void sort_items(Item *items, Item *room, size_t count) {
    if (count < FEW) {
        sort_few(items, count);
        return;
    }
    size_t counts[8][256] = {0};
    for (size_t i = 0; i < count; i++)
        for (int digit = 0; digit < 8; digit++)
            counts[digit][items[i].key >> 8 * digit & 0xFF]++;
    Item *from = items, *to = room;
    for (int digit = 0; digit < 8; digit++) {
        size_t *ends = counts[digit], at = 0;
        if (ends[from[0].key >> 8 * digit & 0xFF] == count)
            continue;
        for (int byte = 0; byte < 256; byte++) {
            size_t size = ends[byte];
            ends[byte] = at;
            at += size;
        }
        for (size_t i = 0; i < count; i++)
            to[ends[from[i].key >> 8 * digit & 0xFF]++] = from[i];
        Item *swap = from;
        from = to;
        to = swap;
    }
    if (from != items)
        memcpy(items, from, count * sizeof *items);
}

/* ---- The distinct values met so far: what they are, where first, and a table from hash to number. */

typedef struct {
    u64 high, low; /* a key; or the address and length of a string */
    u64 hash;
    u32 first;
} Value;

typedef struct {
    Value *values;
    u64 *slots; /* upper half of the hash, number + 1 */
    u64 count, room, mask;
} Table;

static int table_make(Table *table, u64 expected) {
    u64 slots = 1024;
    while (slots < 2 * expected && slots < 1u << 16)
        slots *= 2;
    *table = (Table){PyMem_RawMalloc(slots / 2 * sizeof(Value)), PyMem_RawCalloc(slots, 8), 0, slots / 2, slots - 1};
    return table->values && table->slots;
}

static void table_free(Table *table) {
    PyMem_RawFree(table->values);
    PyMem_RawFree(table->slots);
}

static int table_grow(Table *table) {
    u64 slots = (table->mask + 1) * 4;
    u64 *wider = PyMem_RawCalloc(slots, 8);
    Value *values = wider ? PyMem_RawRealloc(table->values, slots / 2 * sizeof(Value)) : NULL;
    if (!values) {
        PyMem_RawFree(wider);
        return 0;
    }
    PyMem_RawFree(table->slots);
    *table = (Table){values, wider, table->count, slots / 2, slots - 1};
    for (u64 number = 0; number < table->count; number++) {
        u64 hash = values[number].hash, at = hash & table->mask;
        while (wider[at])
            at = (at + 1) & table->mask;
        wider[at] = (hash >> 32) << 32 | (number + 1);
    }
    return 1;
}

static inline int same_string(const Value *value, const u8 *data, u64 size) {
    return value->low == size && memcmp((const u8 *)(uintptr_t)value->high, data, size) == 0;
}

/* The number of a value, new or not, in *number. */
static inline int table_put(Table *table, u64 hash, u64 high, u64 low, u32 entry, int is_string, u32 *number) {
    u64 at = hash & table->mask, tag = hash >> 32;
    for (; table->slots[at]; at = (at + 1) & table->mask) {
        if (table->slots[at] >> 32 != tag)
            continue;
        u32 found = (u32)table->slots[at] - 1;
        const Value *value = &table->values[found];
        if (is_string ? same_string(value, (const u8 *)(uintptr_t)high, low) : value->high == high && value->low == low) {
            *number = found;
            return 1;
        }
    }
    if (table->count == table->room) {
        if (!table_grow(table))
            return 0;
        for (at = hash & table->mask; table->slots[at]; at = (at + 1) & table->mask)
            ;
    }
    *number = (u32)table->count;
    table->slots[at] = tag << 32 | (table->count + 1);
    table->values[table->count++] = (Value){high, low, hash, entry};
    return 1;
}

/* ---- Order of distinct values. */

static void order_pairs(const Value *values, Item *items, Item *room, size_t count) {
    for (size_t i = 0; i < count; i++)
        items[i] = (Item){values[i].high, (u32)i};
    sort_items(items, room, count);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && items[end].key == items[i].key; end++)
            ;
        if (end - i == 1)
            continue;
        for (size_t j = i; j < end; j++)
            items[j].key = values[items[j].id].low;
        sort_items(items + i, room, end - i);
    }
}

static inline const u8 *data_of(const Value *value) { return (const u8 *)(uintptr_t)value->high; }

/* Eight bytes of a string as a number that compares as they do; zeros behind its end. */
static inline u64 key_at(const u8 *data, u64 size, u64 depth) {
    if (depth + 8 <= size)
        return big64(data + depth);
    u64 key = 0;
    for (u64 i = depth; i < size; i++)
        key |= (u64)data[i] << (56 - 8 * (i - depth));
    return key;
}

static int is_before(const Value *a, const Value *b, u64 depth) {
    u64 shorter = a->low < b->low ? a->low : b->low;
    int order = shorter > depth ? memcmp(data_of(a) + depth, data_of(b) + depth, shorter - depth) : 0;
    return order < 0 || (order == 0 && a->low < b->low);
}

static void sort_few_strings(const Value *values, Item *items, size_t count, u64 depth) {
    for (size_t i = 1; i < count; i++) {
        Item item = items[i];
        size_t j = i;
        for (; j && is_before(&values[item.id], &values[items[j - 1].id], depth); j--)
            items[j] = items[j - 1];
        items[j] = item;
    }
}

/* Bytes after depth in which all these strings agree. */
static u64 agreed(const Value *values, const Item *items, size_t count, u64 depth) {
    const Value *one = &values[items[0].id];
    u64 same = one->low - depth;
    for (size_t i = 1; i < count && same; i++) {
        const Value *other = &values[items[i].id];
        u64 limit = other->low - depth < same ? other->low - depth : same, at = 0;
        while (at < limit && data_of(one)[depth + at] == data_of(other)[depth + at])
            at++;
        same = at;
    }
    return same;
}

/* Strings that agree in their first depth bytes, none of them shorter than that. */
static void order_strings(const Value *values, Item *items, Item *room, size_t count, u64 depth) {
    if (count < FEW) {
        sort_few_strings(values, items, count, depth);
        return;
    }
    depth += agreed(values, items, count, depth);
    for (size_t i = 0; i < count; i++)
        items[i].key = key_at(data_of(&values[items[i].id]), values[items[i].id].low, depth);
    sort_items(items, room, count);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && items[end].key == items[i].key; end++)
            ;
        if (end - i == 1)
            continue;
        /* Those that end within these bytes agree in all but length and come first; there are at most nine of them. */
        size_t longer = i;
        for (size_t j = i; j < end; j++)
            if (values[items[j].id].low <= depth + 8) {
                Item swap = items[j];
                items[j] = items[longer];
                items[longer++] = swap;
            }
        sort_few_strings(values, items + i, longer - i, depth);
        if (end - longer > 1)
            order_strings(values, items + longer, room, end - longer, depth + 8);
    }
}

/* (first, codes) once all values are in the table; codes holds their numbers and is rewritten in place. */
static int finish_ranks(Table *table, u32 *codes, u64 entries, int are_strings, u32 *first) {
    size_t count = table->count;
    Item *items = PyMem_RawMalloc((2 * count + 1) * sizeof *items);
    u32 *rank = PyMem_RawMalloc((count + 1) * sizeof *rank);
    int how = items && rank ? FINE : NO_MEMORY;
    if (how == FINE) {
        for (size_t i = 0; i < count; i++)
            items[i].id = (u32)i;
        if (are_strings)
            order_strings(table->values, items, items + count, count, 0);
        else
            order_pairs(table->values, items, items + count, count);
        for (size_t i = 0; i < count; i++) {
            rank[items[i].id] = (u32)i;
            first[i] = table->values[items[i].id].first;
        }
        for (u64 i = 0; i < entries; i++)
            codes[i] = rank[codes[i]];
    }
    PyMem_RawFree(items);
    PyMem_RawFree(rank);
    return how;
}

/* The two results: first (cut to the distinct values) and codes. Takes over both references. */
static PyObject *ranked(PyObject *first, PyObject *codes, u64 distinct) {
    if (_PyBytes_Resize(&first, (Py_ssize_t)distinct * 4) < 0) {
        Py_DECREF(codes);
        return NULL;
    }
    return Py_BuildValue("(NN)", first, codes);
}

static int make_ranked(u64 entries, PyObject **first, PyObject **codes) {
    *first = *codes = NULL;
    if (entries >= UINT32_MAX)
        return failed(TOO_MANY) != NULL;
    *first = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)entries * 4);
    *codes = *first ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)entries * 4) : NULL;
    if (!*codes)
        Py_CLEAR(*first);
    return *first != NULL;
}

static PyObject *end_ranked(int how, PyObject *first, PyObject *codes, u64 distinct) {
    if (how == FINE)
        return ranked(first, codes, distinct);
    Py_DECREF(first);
    Py_DECREF(codes);
    return failed(how);
}

static int rank_all_keys(Table *table, const u64 *high, const u64 *low, u64 entries, u32 *codes, u32 *first) {
    if (!table_make(table, entries))
        return NO_MEMORY;
    for (u64 i = 0; i < entries; i++) {
        u64 second = low ? low[i] : 0;
        if (!table_put(table, hash_pair(high[i], second), high[i], second, (u32)i, 0, &codes[i]))
            return NO_MEMORY;
    }
    return finish_ranks(table, codes, entries, 0, first);
}

static PyObject *fields_rank_keys(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Buffers open = {.count = 0};
    Py_buffer *high, *low = NULL;
    PyObject *first, *codes;
    if (!takes("rank_keys", count, 2) || !(high = open_one(&open, args[0], 8)))
        return NULL;
    if (args[1] != Py_None && !(low = open_one(&open, args[1], 8)))
        return NULL;
    if (low && low->len != high->len)
        return unequal(&open);
    u64 entries = (u64)high->len / 8;
    if (!make_ranked(entries, &first, &codes)) {
        close_all(&open);
        return NULL;
    }
    Table table = {0};
    int how;
    u32 *codes_out = (u32 *)PyBytes_AS_STRING(codes), *first_out = (u32 *)PyBytes_AS_STRING(first);
    Py_BEGIN_ALLOW_THREADS
    how = rank_all_keys(&table, high->buf, low ? low->buf : NULL, entries, codes_out, first_out);
    Py_END_ALLOW_THREADS
    u64 distinct = table.count;
    table_free(&table);
    close_all(&open);
    return end_ranked(how, first, codes, distinct);
}

/* ---- Strings that stand in two blobs, the second behind the first (fields/entries.py). */

typedef struct {
    const u8 *blob, *more;
    u64 size, more_size;
    const u64 *at;
    const u32 *length;
    u64 entries;
} Spread;

static inline const u8 *string_at(const Spread *s, u64 i) {
    u64 at = s->at[i], length = s->length[i];
    if (at < s->size)
        return length <= s->size - at ? s->blob + at : NULL;
    at -= s->size;
    return at <= s->more_size && length <= s->more_size - at ? s->more + at : NULL;
}

static int open_spread(PyObject *const *args, Buffers *open, Spread *s) {
    Py_buffer *blob, *more, *at, *length;
    if (!(blob = open_one(open, args[0], 1)) || !(more = open_one(open, args[1], 1)) || !(at = open_one(open, args[2], 8)) ||
        !(length = open_one(open, args[3], 4)))
        return 0;
    if (at->len / 8 != length->len / 4)
        return unequal(open) != NULL;
    *s = (Spread){blob->buf, more->buf, (u64)blob->len, (u64)more->len, at->buf, length->buf, (u64)at->len / 8};
    return 1;
}

static int rank_all_strings(Table *table, const Spread *s, u32 *codes, u32 *first) {
    if (!table_make(table, s->entries))
        return NO_MEMORY;
    for (u64 i = 0; i < s->entries; i++) {
        const u8 *data = string_at(s, i);
        if (!data)
            return OUTSIDE;
        u64 size = s->length[i];
        if (!table_put(table, hash_bytes(data, size), (u64)(uintptr_t)data, size, (u32)i, 1, &codes[i]))
            return NO_MEMORY;
    }
    return finish_ranks(table, codes, s->entries, 1, first);
}

static PyObject *fields_rank_strings(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Buffers open = {.count = 0};
    Spread s;
    PyObject *first, *codes;
    if (!takes("rank_strings", count, 4) || !open_spread(args, &open, &s))
        return NULL;
    if (!make_ranked(s.entries, &first, &codes)) {
        close_all(&open);
        return NULL;
    }
    Table table = {0};
    int how;
    u32 *codes_out = (u32 *)PyBytes_AS_STRING(codes), *first_out = (u32 *)PyBytes_AS_STRING(first);
    Py_BEGIN_ALLOW_THREADS
    how = rank_all_strings(&table, &s, codes_out, first_out);
    Py_END_ALLOW_THREADS
    u64 distinct = table.count;
    table_free(&table);
    close_all(&open);
    return end_ranked(how, first, codes, distinct);
}

static PyObject *fields_join_strings(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Buffers open = {.count = 0};
    Spread s;
    PyObject *result = NULL;
    u64 size = 0;
    if (!takes("join_strings", count, 4) || !open_spread(args, &open, &s))
        return NULL;
    for (u64 i = 0; i < s.entries; i++) {
        if (!string_at(&s, i)) {
            close_all(&open);
            return failed(OUTSIDE);
        }
        size += s.length[i];
    }
    result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (result) {
        u8 *out = (u8 *)PyBytes_AS_STRING(result);
        for (u64 i = 0; i < s.entries; i++) {
            memcpy(out, string_at(&s, i), s.length[i]);
            out += s.length[i];
        }
    }
    close_all(&open);
    return result;
}

/* ---- Grouping: a counting sort of rows by code. */

static int group_all(const void *codes, int width, u64 entries, const u32 *rows, u64 groups, u64 *starts, u32 *out) {
#define CODE(i) (width == 1 ? ((const u8 *)codes)[i] : width == 2 ? ((const u16 *)codes)[i] : ((const u32 *)codes)[i])
    u64 *next = PyMem_RawCalloc(groups + 1, 8);
    if (!next)
        return NO_MEMORY;
    for (u64 i = 0; i < entries; i++) {
        if (CODE(i) >= groups) {
            PyMem_RawFree(next);
            return OUTSIDE;
        }
        next[CODE(i)]++;
    }
    u64 at = 0;
    for (u64 group = 0; group < groups; group++) {
        starts[group] = at;
        at += next[group];
        next[group] = starts[group];
    }
    starts[groups] = at;
    for (u64 i = 0; i < entries; i++)
        out[next[CODE(i)]++] = rows ? rows[i] : (u32)i;
    PyMem_RawFree(next);
    return FINE;
#undef CODE
}

static PyObject *fields_group(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Buffers open = {.count = 0};
    Py_buffer *codes, *rows = NULL;
    if (!takes("group", count, 3))
        return NULL;
    Py_ssize_t groups = PyLong_AsSsize_t(args[2]);
    if (groups < 0 || groups > UINT32_MAX)
        return PyErr_Occurred() ? NULL : failed(TOO_MANY);
    if (!(codes = open_one(&open, args[0], 1)) || (args[1] != Py_None && !(rows = open_one(&open, args[1], 4))))
        return NULL;
    int width = (int)codes->itemsize;
    if ((width != 1 && width != 2 && width != 4) || codes->len % width || (rows && rows->len / 4 != codes->len / width))
        return unequal(&open);
    u64 entries = (u64)codes->len / (u64)width;
    PyObject *starts = PyBytes_FromStringAndSize(NULL, (groups + 1) * 8);
    PyObject *out = starts ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)entries * 4) : NULL;
    int how = out ? FINE : NO_MEMORY;
    if (out) {
        u64 *starts_out = (u64 *)PyBytes_AS_STRING(starts);
        u32 *rows_out = (u32 *)PyBytes_AS_STRING(out);
        Py_BEGIN_ALLOW_THREADS
        how = group_all(codes->buf, width, entries, rows ? rows->buf : NULL, (u64)groups, starts_out, rows_out);
        Py_END_ALLOW_THREADS
    }
    close_all(&open);
    if (how == FINE)
        return Py_BuildValue("(NN)", starts, out);
    Py_XDECREF(starts);
    Py_XDECREF(out);
    return failed(how);
}

/* ---- Tallying: what the rows of a query come to by the number of their group. */

typedef struct {
    const void *data;
    int width; /* 1, 2, 4 or 8 */
} Numbers;

static inline u64 number_at(Numbers n, u64 i) {
    switch (n.width) {
    case 1: return ((const u8 *)n.data)[i];
    case 2: return ((const u16 *)n.data)[i];
    case 4: return ((const u32 *)n.data)[i];
    default: return ((const u64 *)n.data)[i];
    }
}

/* The elements' width, or 0 when it is none of those; *length is how many there are. */
static int numbers_of(const Py_buffer *view, Numbers *numbers, u64 *length) {
    Py_ssize_t width = view->itemsize;
    if ((width != 1 && width != 2 && width != 4 && width != 8) || view->len % width)
        return 0;
    *numbers = (Numbers){view->buf, (int)width};
    *length = (u64)view->len / (u64)width;
    return 1;
}

/* One loop a width, which the compiler makes of the branch that is always the same. */
#define BY_WIDTH(n, ...) \
    switch ((n).width) { \
    case 1: (n).width = 1; __VA_ARGS__; break; \
    case 2: (n).width = 2; __VA_ARGS__; break; \
    case 4: (n).width = 4; __VA_ARGS__; break; \
    default: (n).width = 8; __VA_ARGS__; break; \
    }

static int tally_all(Numbers numbers, u64 rows, u64 groups, u64 *counts, u32 *first) {
    memset(counts, 0, groups * 8);
    memset(first, 0, groups * 4);
    BY_WIDTH(numbers, for (u64 i = 0; i < rows; i++) {
        u64 group = number_at(numbers, i);
        if (group >= groups)
            return OUTSIDE;
        if (!counts[group]++)
            first[group] = (u32)i;
    })
    return FINE;
}

static PyObject *fields_tally(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Buffers open = {.count = 0};
    Py_buffer *view;
    Numbers numbers;
    u64 rows;
    if (!takes("tally", count, 2))
        return NULL;
    Py_ssize_t groups = PyLong_AsSsize_t(args[1]);
    if (groups < 0 || groups > UINT32_MAX)
        return PyErr_Occurred() ? NULL : failed(TOO_MANY);
    if (!(view = open_one(&open, args[0], 1)))
        return NULL;
    if (!numbers_of(view, &numbers, &rows) || rows > UINT32_MAX)
        return unequal(&open);
    PyObject *counts = PyBytes_FromStringAndSize(NULL, groups * 8);
    PyObject *first = counts ? PyBytes_FromStringAndSize(NULL, groups * 4) : NULL;
    int how = first ? FINE : NO_MEMORY;
    if (first) {
        u64 *counts_out = (u64 *)PyBytes_AS_STRING(counts);
        u32 *first_out = (u32 *)PyBytes_AS_STRING(first);
        Py_BEGIN_ALLOW_THREADS
        how = tally_all(numbers, rows, (u64)groups, counts_out, first_out);
        Py_END_ALLOW_THREADS
    }
    close_all(&open);
    if (how == FINE)
        return Py_BuildValue("(NN)", counts, first);
    Py_XDECREF(counts);
    Py_XDECREF(first);
    return failed(how);
}

static inline __attribute__((always_inline)) int weigh_coded(
    Numbers numbers, u64 rows, Numbers codes, const double *weights, u64 weighed, u64 groups, double *totals) {
    BY_WIDTH(numbers, for (u64 i = 0; i < rows; i++) {
        u64 group = number_at(numbers, i), code = number_at(codes, i);
        if (group >= groups || code >= weighed)
            return OUTSIDE;
        totals[group] += weights[code];
    })
    return FINE;
}

static int weigh_all(Numbers numbers, u64 rows, const Numbers *codes, const double *weights, u64 weighed, u64 groups, double *totals) {
    memset(totals, 0, groups * 8);
    if (!codes) {
        BY_WIDTH(numbers, for (u64 i = 0; i < rows; i++) {
            u64 group = number_at(numbers, i);
            if (group >= groups)
                return OUTSIDE;
            totals[group] += weights[i];
        })
        return FINE;
    }
    Numbers by = *codes;
    int how;
    BY_WIDTH(by, how = weigh_coded(numbers, rows, by, weights, weighed, groups, totals))
    return how;
}

static PyObject *fields_weigh(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Buffers open = {.count = 0};
    Py_buffer *view, *weights, *by = NULL;
    Numbers numbers, codes;
    u64 rows, coded = 0;
    if (!takes("weigh", count, 4))
        return NULL;
    Py_ssize_t groups = PyLong_AsSsize_t(args[3]);
    if (groups < 0 || groups > UINT32_MAX)
        return PyErr_Occurred() ? NULL : failed(TOO_MANY);
    if (!(view = open_one(&open, args[0], 1)) || !(weights = open_one(&open, args[2], 8)) ||
        (args[1] != Py_None && !(by = open_one(&open, args[1], 1))))
        return NULL;
    u64 weighed = (u64)weights->len / 8;
    if (!numbers_of(view, &numbers, &rows) || (by && !numbers_of(by, &codes, &coded)) || rows != (by ? coded : weighed))
        return unequal(&open);
    PyObject *totals = PyBytes_FromStringAndSize(NULL, groups * 8);
    int how = totals ? FINE : NO_MEMORY;
    if (totals) {
        double *out = (double *)PyBytes_AS_STRING(totals);
        Py_BEGIN_ALLOW_THREADS
        how = weigh_all(numbers, rows, by ? &codes : NULL, weights->buf, weighed, (u64)groups, out);
        Py_END_ALLOW_THREADS
    }
    close_all(&open);
    if (how == FINE)
        return totals;
    Py_XDECREF(totals);
    return failed(how);
}

/* ---- Merging parts that ascend: the least head of all parts, again and again. Parts are few. */

static int merge_all_keys(const u64 *high, const u64 *low, const u64 *part_at, u64 parts, u32 *first, u32 *codes, u64 *distinct) {
    u64 *head = PyMem_RawMalloc((parts + 1) * 8), live = 0, *end = PyMem_RawMalloc((parts + 1) * 8);
    if (!head || !end) {
        PyMem_RawFree(head);
        PyMem_RawFree(end);
        return NO_MEMORY;
    }
    for (u64 part = 0; part < parts; part++)
        if (part_at[part] < part_at[part + 1]) {
            head[live] = part_at[part];
            end[live++] = part_at[part + 1];
        }
    u32 code = 0;
    for (; live; code++) {
        u64 least = head[0];
        for (u64 i = 1; i < live; i++) {
            u64 at = head[i];
            if (high[at] < high[least] || (low && high[at] == high[least] && low[at] < low[least]))
                least = at;
        }
        first[code] = (u32)least;
        u64 kept = 0;
        for (u64 i = 0; i < live; i++) {
            u64 at = head[i];
            if (high[at] == high[least] && (!low || low[at] == low[least])) {
                codes[at++] = code;
                if (at == end[i])
                    continue;
            }
            head[kept] = at;
            end[kept++] = end[i];
        }
        live = kept;
    }
    *distinct = code;
    PyMem_RawFree(head);
    PyMem_RawFree(end);
    return FINE;
}

static PyObject *fields_merge_keys(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Buffers open = {.count = 0};
    Py_buffer *high, *low = NULL, *part_at;
    PyObject *first, *codes;
    if (!takes("merge_keys", count, 3) || !(high = open_one(&open, args[0], 8)) || !(part_at = open_one(&open, args[2], 8)))
        return NULL;
    if (args[1] != Py_None && !(low = open_one(&open, args[1], 8)))
        return NULL;
    u64 entries = (u64)high->len / 8, edges = (u64)part_at->len / 8;
    const u64 *edge = part_at->buf;
    int is_sound = edges && edge[0] == 0 && edge[edges - 1] == entries && (!low || low->len == high->len);
    for (u64 i = 1; is_sound && i < edges; i++)
        is_sound = edge[i - 1] <= edge[i];
    if (!is_sound)
        return unequal(&open);
    if (!make_ranked(entries, &first, &codes)) {
        close_all(&open);
        return NULL;
    }
    u64 distinct = 0;
    int how;
    u32 *codes_out = (u32 *)PyBytes_AS_STRING(codes), *first_out = (u32 *)PyBytes_AS_STRING(first);
    Py_BEGIN_ALLOW_THREADS
    how = merge_all_keys(high->buf, low ? low->buf : NULL, edge, edges - 1, first_out, codes_out, &distinct);
    Py_END_ALLOW_THREADS
    close_all(&open);
    return end_ranked(how, first, codes, distinct);
}

/* One part of merge_strings: an open dictionary, and where its merging stands. */
typedef struct {
    Buffers open;
    const u8 *offsets, *blob, *mask;
    int width;
    u64 size, strings;
    u32 *rank;
    u64 at; /* the head */
    const u8 *data;
    u64 length, key;
} StringPart;

static inline u64 offset_at(const StringPart *part, u64 i) {
    return part->width == 8 ? load64(part->offsets + 8 * i) : load32(part->offsets + 4 * i);
}

/* Moves the head to the next string from `at` on that counts; 0 when there is none. */
static inline int next_head(StringPart *part, u64 depth) {
    while (part->at < part->strings && part->mask && !part->mask[part->at])
        part->at++;
    if (part->at == part->strings)
        return 0;
    u64 start = offset_at(part, part->at);
    part->data = part->blob + start;
    part->length = offset_at(part, part->at + 1) - start;
    part->key = key_at(part->data, part->length, depth);
    return 1;
}

static inline int head_before(const StringPart *a, const StringPart *b, u64 depth) {
    if (a->key != b->key)
        return a->key < b->key;
    u64 shorter = a->length < b->length ? a->length : b->length;
    int order = shorter > depth + 8 ? memcmp(a->data + depth + 8, b->data + depth + 8, shorter - depth - 8) : 0;
    return order < 0 || (order == 0 && a->length < b->length);
}

/* Bytes in which all strings of all parts agree: those that first and last of each do. */
static u64 agreed_parts(StringPart **live, u64 count) {
    const u8 *one = live[0]->data;
    u64 same = live[0]->length;
    for (u64 i = 0; i < count; i++) {
        u64 last = live[i]->strings - 1, start = offset_at(live[i], last), end = offset_at(live[i], last + 1);
        const u8 *ends[2] = {live[i]->data, live[i]->blob + start};
        u64 sizes[2] = {live[i]->length, end - start};
        for (int which = 0; which < 2; which++) {
            u64 at = 0;
            while (at < same && at < sizes[which] && one[at] == ends[which][at])
                at++;
            same = at;
        }
    }
    return same;
}

static u64 merge_all_strings(StringPart **live, u64 count, u32 *lengths, u8 *blob, u64 *size) {
    u64 waiting = 0, depth;
    for (u64 i = 0; i < count; i++)
        if (next_head(live[i], 0))
            live[waiting++] = live[i];
    depth = waiting ? agreed_parts(live, waiting) : 0;
    for (u64 i = 0; i < waiting; i++)
        next_head(live[i], depth);
    u64 code = 0;
    u8 *out = blob;
    for (; waiting; code++) {
        StringPart *least = live[0];
        for (u64 i = 1; i < waiting; i++)
            if (head_before(live[i], least, depth))
                least = live[i];
        const u8 *data = least->data;
        u64 length = least->length, key = least->key, kept = 0;
        memcpy(out, data, length);
        lengths[code] = (u32)length;
        for (u64 i = 0; i < waiting; i++) {
            StringPart *part = live[i];
            if (part->key == key && part->length == length && memcmp(part->data, out, length) == 0) {
                part->rank[part->at++] = (u32)code;
                if (!next_head(part, depth))
                    continue;
            }
            live[kept++] = part;
        }
        waiting = kept;
        out += length;
    }
    *size = (u64)(out - blob);
    return code;
}

/* Opens (offsets, blob, mask or None) and checks it; counts the strings and bytes that can come out of it. */
static int open_part(PyObject *object, StringPart *part, u64 *strings, u64 *bytes) {
    if (!PyTuple_Check(object) || PyTuple_GET_SIZE(object) != 3) {
        PyErr_SetString(PyExc_TypeError, "a part is (offsets, blob, mask)");
        return 0;
    }
    Py_buffer *offsets = open_one(&part->open, PyTuple_GET_ITEM(object, 0), 4);
    Py_buffer *blob = offsets ? open_one(&part->open, PyTuple_GET_ITEM(object, 1), 1) : NULL;
    if (!blob)
        return 0;
    Py_buffer *mask = NULL;
    if (PyTuple_GET_ITEM(object, 2) != Py_None && !(mask = open_one(&part->open, PyTuple_GET_ITEM(object, 2), 1)))
        return 0;
    part->width = (int)offsets->itemsize;
    part->offsets = offsets->buf;
    part->blob = blob->buf;
    part->size = (u64)blob->len;
    part->mask = mask ? mask->buf : NULL;
    if ((part->width != 4 && part->width != 8) || offsets->len < part->width || offsets->len % part->width)
        return unequal(&part->open) != NULL;
    part->strings = (u64)(offsets->len / part->width) - 1;
    if (mask && (u64)mask->len != part->strings)
        return unequal(&part->open) != NULL;
    for (u64 i = 0; i < part->strings; i++)
        if (offset_at(part, i) > offset_at(part, i + 1) || offset_at(part, i + 1) - offset_at(part, i) > UINT32_MAX) {
            close_all(&part->open);
            return failed(OUTSIDE) != NULL;
        }
    if (offset_at(part, part->strings) > part->size) {
        close_all(&part->open);
        return failed(OUTSIDE) != NULL;
    }
    *strings += part->strings;
    *bytes += offset_at(part, part->strings) - offset_at(part, 0);
    return 1;
}

static PyObject *merge_open_parts(StringPart *parts, u64 count, u64 strings, u64 bytes) {
    if (strings >= UINT32_MAX)
        return failed(TOO_MANY);
    PyObject *lengths = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)strings * 4);
    PyObject *blob = lengths ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes) : NULL;
    PyObject *ranks = blob ? PyList_New((Py_ssize_t)count) : NULL;
    StringPart **live = ranks ? PyMem_Malloc((count + 1) * sizeof *live) : NULL;
    PyObject *result = NULL;
    if (!live)
        goto end;
    for (u64 i = 0; i < count; i++) {
        PyObject *rank = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)parts[i].strings * 4);
        if (!rank)
            goto end;
        PyList_SET_ITEM(ranks, (Py_ssize_t)i, rank);
        parts[i].rank = (u32 *)PyBytes_AS_STRING(rank);
        if (parts[i].mask)
            memset(parts[i].rank, 0, parts[i].strings * 4);
        live[i] = &parts[i];
    }
    u64 size = 0, code;
    u32 *lengths_out = (u32 *)PyBytes_AS_STRING(lengths);
    u8 *blob_out = (u8 *)PyBytes_AS_STRING(blob);
    Py_BEGIN_ALLOW_THREADS
    code = merge_all_strings(live, count, lengths_out, blob_out, &size);
    Py_END_ALLOW_THREADS
    if (_PyBytes_Resize(&lengths, (Py_ssize_t)code * 4) == 0 && _PyBytes_Resize(&blob, (Py_ssize_t)size) == 0)
        result = PyTuple_Pack(3, lengths, blob, ranks);
end:
    PyMem_Free(live);
    Py_XDECREF(lengths);
    Py_XDECREF(blob);
    Py_XDECREF(ranks);
    return result;
}

static PyObject *fields_merge_strings(PyObject *module, PyObject *given) {
    PyObject *list = PySequence_Tuple(given), *result = NULL;
    if (!list)
        return NULL;
    u64 count = (u64)PyTuple_GET_SIZE(list), strings = 0, bytes = 0, opened = 0;
    StringPart *parts = PyMem_Calloc(count + 1, sizeof *parts);
    if (!parts)
        PyErr_NoMemory();
    while (parts && opened < count && open_part(PyTuple_GET_ITEM(list, (Py_ssize_t)opened), &parts[opened], &strings, &bytes))
        opened++;
    if (parts && opened == count)
        result = merge_open_parts(parts, count, strings, bytes);
    while (opened)
        close_all(&parts[--opened].open);
    PyMem_Free(parts);
    Py_DECREF(list);
    return result;
}

/* ---- Extraction: one walk over a document's MessagePack for all paths at once.
 *
 * The paths are a tree of keys. A node whose path ends there has a column; what an array stands in the way of is odd and
 * left to the pure function, with all columns below it. */

enum {
    K_MIN_KEY, K_MISSING, K_NULL, K_NAN, K_NUMBER, K_DECIMAL, K_STRING, K_MAP, K_ARRAY, K_BINARY, K_UUID, K_OBJECT_ID,
    K_BOOL, K_DATE, K_TIMESTAMP, K_REGEX, K_CODE, K_MAX_KEY, K_ODD = 255,
};
static const u8 kind_of_extension[] = {
    0, K_DATE, K_OBJECT_ID, K_UUID, K_DECIMAL, K_TIMESTAMP, K_REGEX, K_MIN_KEY, K_MAX_KEY, K_BINARY, K_CODE,
};
#define EXTENSIONS (sizeof kind_of_extension)
#define NODES_MAX 4096
#define DEPTH_MAX 200 /* of paths: query/paths.py */
#define NONE UINT32_MAX

typedef struct {
    const u8 *key;
    u64 size;
    u32 column, child, next; /* NONE: its path ends elsewhere; it has none; it is the last of its siblings */
} Node;

typedef struct {
    u8 *kind;
    u64 *payload;
    u32 *length;
    u8 has_odd;
} Out;

typedef struct {
    const u8 *at, *end;
} Reader;

/* One value's head. A map or array has its entries still before it, anything else has been read past. */
typedef struct {
    u8 kind; /* K_MISSING: a map or array, by is_map */
    u8 is_map;
    u64 count; /* of entries */
    u64 payload;
    u32 length;
    const u8 *data; /* of a string */
} Head;

static inline int has_left(const Reader *r, u64 size) { return size <= (u64)(r->end - r->at); }

static inline u64 big_number(const u8 *at, int bytes) {
    return bytes == 1 ? at[0] : bytes == 2 ? big16(at) : bytes == 4 ? big32(at) : big64(at);
}

static int take_bytes(Reader *r, Head *head, u8 kind, u64 size) {
    if (!has_left(r, size) || size > UINT32_MAX)
        return 0;
    head->kind = kind;
    head->data = r->at;
    head->length = (u32)size;
    r->at += size;
    return 1;
}

static int take_extension(Reader *r, Head *head, u64 size) {
    if (!has_left(r, 1))
        return 0;
    u8 code = *r->at++;
    if (code == 0 || code >= EXTENSIONS || !take_bytes(r, head, kind_of_extension[code], size))
        return 0;
    if ((code == 1 && size != 8) || (code == 2 && size != 12) || (code == 3 && size != 16))
        return 0;
    if (code == 1)
        head->payload = big64(head->data);
    head->length = 0;
    return 1;
}

static int take_double(Head *head, double value) {
    head->kind = value == value ? K_NUMBER : K_NAN;
    if (head->kind == K_NUMBER) {
        memcpy(&head->payload, &value, 8);
        head->length = 1;
    }
    return 1;
}

static int take_float(Reader *r, Head *head, int bytes) {
    double value;
    if (!has_left(r, (u64)bytes))
        return 0;
    if (bytes == 4) {
        u32 bits = big32(r->at);
        float narrow;
        memcpy(&narrow, &bits, 4);
        value = narrow;
    } else {
        u64 bits = big64(r->at);
        memcpy(&value, &bits, 8);
    }
    r->at += bytes;
    return take_double(head, value);
}

static int take_integer(Reader *r, Head *head, int bytes, int is_signed) {
    if (!has_left(r, (u64)bytes))
        return 0;
    u64 value = big_number(r->at, bytes);
    r->at += bytes;
    if (is_signed) {
        int unused = 64 - 8 * bytes;
        value = (u64)((int64_t)(value << unused) >> unused);
    } else if (value > INT64_MAX) {
        return 0;
    }
    head->kind = K_NUMBER;
    head->payload = value;
    return 1;
}

static int take_container(Head *head, int is_map, u64 count) {
    head->kind = K_MISSING;
    head->is_map = (u8)is_map;
    head->count = is_map ? 2 * count : count;
    return 1;
}

/* A length of 1, 2 or 4 bytes; (u64)-1 when it is not all there. */
static inline u64 take_size(Reader *r, int bytes) {
    if (!has_left(r, (u64)bytes))
        return (u64)-1;
    u64 size = big_number(r->at, bytes);
    r->at += bytes;
    return size;
}

static int take_plain(Head *head, u8 kind, u64 payload) {
    head->kind = kind;
    head->payload = payload;
    return 1;
}

static int take_head(Reader *r, Head *head) {
    u64 size;
    if (!has_left(r, 1))
        return 0;
    u8 byte = *r->at++;
    *head = (Head){0};
    if (byte < 0x80)
        return take_plain(head, K_NUMBER, byte);
    if (byte >= 0xE0)
        return take_plain(head, K_NUMBER, (u64)(int64_t)(int8_t)byte);
    if (byte < 0x90)
        return take_container(head, 1, byte & 0x0F);
    if (byte < 0xA0)
        return take_container(head, 0, byte & 0x0F);
    if (byte < 0xC0)
        return take_bytes(r, head, K_STRING, byte & 0x1F);
    switch (byte) {
    case 0xC0:
        return take_plain(head, K_NULL, 0);
    case 0xC2: case 0xC3:
        return take_plain(head, K_BOOL, byte & 1);
    case 0xC4: case 0xC5: case 0xC6:
        size = take_size(r, 1 << (byte - 0xC4));
        if (size == (u64)-1 || !take_bytes(r, head, K_BINARY, size))
            return 0;
        head->length = 0;
        return 1;
    case 0xC7: case 0xC8: case 0xC9:
        size = take_size(r, 1 << (byte - 0xC7));
        return size != (u64)-1 && take_extension(r, head, size);
    case 0xCA: case 0xCB:
        return take_float(r, head, byte == 0xCA ? 4 : 8);
    case 0xCC: case 0xCD: case 0xCE: case 0xCF:
        return take_integer(r, head, 1 << (byte - 0xCC), 0);
    case 0xD0: case 0xD1: case 0xD2: case 0xD3:
        return take_integer(r, head, 1 << (byte - 0xD0), 1);
    case 0xD4: case 0xD5: case 0xD6: case 0xD7: case 0xD8:
        return take_extension(r, head, 1u << (byte - 0xD4));
    case 0xD9: case 0xDA: case 0xDB:
        size = take_size(r, 1 << (byte - 0xD9));
        return size != (u64)-1 && take_bytes(r, head, K_STRING, size);
    case 0xDC: case 0xDD:
        size = take_size(r, byte == 0xDC ? 2 : 4);
        return size != (u64)-1 && take_container(head, 0, size);
    case 0xDE: case 0xDF:
        size = take_size(r, byte == 0xDE ? 2 : 4);
        return size != (u64)-1 && take_container(head, 1, size);
    default:
        return 0;
    }
}

/* Reads past so many values with all that is in them. A byte at least each: it ends with the document. */
static int skip(Reader *r, u64 values) {
    Head head;
    while (values--) {
        if (!take_head(r, &head))
            return 0;
        if (head.kind == K_MISSING)
            values += head.count;
    }
    return 1;
}

typedef struct {
    const Node *nodes;
    Out *out;
    const u8 *blob;
    u64 row;
} Walk;

static void mark_odd(const Walk *w, u32 node) {
    for (u32 child = w->nodes[node].child; child != NONE; child = w->nodes[child].next)
        mark_odd(w, child);
    if (w->nodes[node].column != NONE) {
        Out *out = &w->out[w->nodes[node].column];
        out->kind[w->row] = K_ODD;
        out->has_odd = 1;
    }
}

static int walk_map(const Walk *w, Reader *r, u32 first, u64 fields, int is_whole);

static int walk_value(const Walk *w, Reader *r, u32 node) {
    const Node *n = &w->nodes[node];
    Head head;
    if (!take_head(r, &head))
        return 0;
    if (head.kind == K_MISSING && !head.is_map) {
        mark_odd(w, node);
        return skip(r, head.count);
    }
    int is_map = head.kind == K_MISSING;
    if (n->column != NONE) {
        Out *out = &w->out[n->column];
        out->kind[w->row] = is_map ? K_MAP : head.kind;
        int is_placed = head.kind == K_STRING || head.kind == K_OBJECT_ID || head.kind == K_UUID;
        out->payload[w->row] = is_placed ? (u64)(head.data - w->blob) : head.payload;
        out->length[w->row] = head.length;
    }
    if (!is_map)
        return 1;
    return n->child == NONE ? skip(r, head.count) : walk_map(w, r, n->child, head.count / 2, 0);
}

/* The fields of a map beside the nodes from first on. is_whole: nothing comes behind it, so that what remains need not be
 * read once all nodes were found. */
static int walk_map(const Walk *w, Reader *r, u32 first, u64 fields, int is_whole) {
    u32 wanted = 0;
    for (u32 node = first; node != NONE; node = w->nodes[node].next)
        wanted++;
    while (fields--) {
        Head key;
        if (!take_head(r, &key) || key.kind != K_STRING)
            return 0;
        u32 node = first;
        while (node != NONE && !(w->nodes[node].size == key.length && memcmp(w->nodes[node].key, key.data, key.length) == 0))
            node = w->nodes[node].next;
        if (node == NONE ? !skip(r, 1) : !walk_value(w, r, node))
            return 0;
        if (node != NONE && --wanted == 0)
            return is_whole || skip(r, 2 * fields);
    }
    return 1;
}

/* Adds a path to the tree; 0 with an error set when it cannot. */
static int plant(Node *nodes, u32 *count, PyObject *parts, u32 column) {
    u32 *link = &nodes[0].child, node = 0;
    if (!PyTuple_Check(parts) || PyTuple_GET_SIZE(parts) < 1 || PyTuple_GET_SIZE(parts) > DEPTH_MAX) {
        PyErr_SetString(PyExc_TypeError, "a path is a tuple of 1 to 200 keys");
        return 0;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(parts); i++) {
        PyObject *key = PyTuple_GET_ITEM(parts, i);
        if (!PyBytes_Check(key) || *count == NODES_MAX) {
            PyErr_SetString(PyExc_ValueError, "keys are bytes, and there is an end to them");
            return 0;
        }
        const u8 *data = (const u8 *)PyBytes_AS_STRING(key);
        u64 size = (u64)PyBytes_GET_SIZE(key);
        for (; *link != NONE; link = &nodes[*link].next)
            if (nodes[*link].size == size && memcmp(nodes[*link].key, data, size) == 0)
                break;
        if (*link == NONE) {
            nodes[*count] = (Node){data, size, NONE, NONE, NONE};
            *link = (*count)++;
        }
        node = *link;
        link = &nodes[node].child;
    }
    if (nodes[node].column != NONE) {
        PyErr_SetString(PyExc_ValueError, "a path is given twice");
        return 0;
    }
    nodes[node].column = column;
    return 1;
}

static int walk_all(Walk *w, const Py_buffer *blob, const u64 *at, const u32 *length, u64 rows, u32 columns) {
    for (u32 column = 0; column < columns; column++) {
        memset(w->out[column].kind, K_MISSING, rows);
        memset(w->out[column].payload, 0, rows * 8);
        memset(w->out[column].length, 0, rows * 4);
    }
    for (u64 row = 0; row < rows; row++) {
        if (at[row] > (u64)blob->len || length[row] > (u64)blob->len - at[row])
            return OUTSIDE;
        Reader r = {w->blob + at[row], w->blob + at[row] + length[row]};
        Head head;
        w->row = row;
        if (!take_head(&r, &head) || head.kind != K_MISSING || !head.is_map)
            return OUTSIDE;
        if (w->nodes[0].child != NONE && !walk_map(w, &r, w->nodes[0].child, head.count / 2, 1))
            return OUTSIDE;
    }
    return FINE;
}

/* A list of (kind, payload, length, has_odd), one a path; or NULL, an error set. */
static PyObject *make_outs(Out *out, u64 rows, u32 columns) {
    PyObject *list = PyList_New(columns);
    for (u32 i = 0; list && i < columns; i++) {
        PyObject *kind = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)rows);
        PyObject *payload = kind ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)rows * 8) : NULL;
        PyObject *length = payload ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)rows * 4) : NULL;
        PyObject *three = length ? PyTuple_Pack(3, kind, payload, length) : NULL;
        if (three) {
            out[i] = (Out){(u8 *)PyBytes_AS_STRING(kind), (u64 *)PyBytes_AS_STRING(payload), (u32 *)PyBytes_AS_STRING(length), 0};
            PyList_SET_ITEM(list, i, three);
        } else {
            Py_CLEAR(list);
        }
        Py_XDECREF(kind);
        Py_XDECREF(payload);
        Py_XDECREF(length);
    }
    return list;
}

static PyObject *fields_walk(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Buffers open = {.count = 0};
    Py_buffer *blob, *at, *length;
    PyObject *paths = NULL, *list = NULL, *result = NULL;
    Node *nodes = NULL;
    Out *out = NULL;
    if (!takes("walk", count, 4) || !(blob = open_one(&open, args[0], 1)) || !(at = open_one(&open, args[1], 8)) ||
        !(length = open_one(&open, args[2], 4)))
        return NULL;
    u64 rows = (u64)at->len / 8;
    if ((u64)length->len / 4 != rows)
        return unequal(&open);
    paths = PySequence_Tuple(args[3]);
    u32 columns = paths ? (u32)PyTuple_GET_SIZE(paths) : 0, planted = 1;
    nodes = paths ? PyMem_Malloc(NODES_MAX * sizeof *nodes) : NULL;
    out = nodes ? PyMem_Calloc(columns + 1, sizeof *out) : NULL;
    if (!out) {
        if (paths)
            PyErr_NoMemory();
        goto end;
    }
    nodes[0] = (Node){NULL, 0, NONE, NONE, NONE};
    for (u32 i = 0; i < columns; i++)
        if (!plant(nodes, &planted, PyTuple_GET_ITEM(paths, i), i))
            goto end;
    if (!(list = make_outs(out, rows, columns)))
        goto end;
    Walk w = {nodes, out, blob->buf, 0};
    int how;
    Py_BEGIN_ALLOW_THREADS
    how = walk_all(&w, blob, at->buf, length->buf, rows, columns);
    Py_END_ALLOW_THREADS
    if (how != FINE) {
        failed(how);
        goto end;
    }
    PyObject *odd = PyList_New(columns);
    for (u32 i = 0; odd && i < columns; i++)
        PyList_SET_ITEM(odd, i, PyBool_FromLong(out[i].has_odd));
    result = odd ? PyTuple_Pack(2, list, odd) : NULL;
    Py_XDECREF(odd);
end:
    PyMem_Free(out);
    PyMem_Free(nodes);
    Py_XDECREF(list);
    Py_XDECREF(paths);
    close_all(&open);
    return result;
}

/* ---- What a path reaches through arrays, by the rules of query/paths.py, where they are written down. */

typedef struct {
    const u8 *key;
    u64 size;
    int64_t index; /* the array position that it names, or -1 */
} Step;

typedef struct {
    u32 row, length;
    u64 payload;
    u8 kind;
} Reached;

typedef struct {
    const Step *steps;
    u32 count;
    const u8 *blob;
    Reached *found;
    u64 reached, room;
    u32 row;
} Reach;

static int note(Reach *w, u8 kind, const Head *head) {
    if (w->reached == w->room) {
        u64 room = w->room ? 2 * w->room : 1024;
        Reached *wider = room < UINT32_MAX ? PyMem_RawRealloc(w->found, room * sizeof *wider) : NULL;
        if (!wider)
            return NO_MEMORY;
        w->found = wider;
        w->room = room;
    }
    int is_placed = kind == K_STRING || kind == K_OBJECT_ID || kind == K_UUID;
    u64 payload = !head ? 0 : is_placed ? (u64)(head->data - w->blob) : head->payload;
    w->found[w->reached++] = (Reached){w->row, head ? head->length : 0, payload, kind};
    return FINE;
}

static inline u8 kind_of(const Head *head) { return head->kind != K_MISSING ? head->kind : head->is_map ? K_MAP : K_ARRAY; }

static int reach_array(Reach *w, Reader r, u64 elements, u32 at);

/* r stands before the fields of a map. */
static int reach_map(Reach *w, Reader r, u64 fields, u32 at) {
    const Step *step = &w->steps[at++];
    Head head;
    for (;; fields--) {
        if (!fields)
            return note(w, K_MISSING, NULL);
        if (!take_head(&r, &head) || head.kind != K_STRING)
            return OUTSIDE;
        if (head.length == step->size && memcmp(head.data, step->key, step->size) == 0)
            break;
        if (!skip(&r, 1))
            return OUTSIDE;
    }
    if (!take_head(&r, &head))
        return OUTSIDE;
    u8 kind = kind_of(&head);
    if (kind == K_ARRAY)
        return reach_array(w, r, head.count, at);
    if (at == w->count)
        return note(w, kind, &head);
    return kind == K_MAP ? reach_map(w, r, head.count / 2, at) : note(w, K_MISSING, NULL);
}

/* r stands before the elements of an array. */
static int reach_array(Reach *w, Reader r, u64 elements, u32 at) {
    int how = FINE, is_end = at == w->count;
    int64_t index = is_end ? -1 : w->steps[at].index;
    for (u64 place = 0; how == FINE && place < elements; place++) {
        Head head;
        if (!take_head(&r, &head))
            return OUTSIDE;
        Reader inside = r;
        u8 kind = kind_of(&head);
        if (is_end)
            how = note(w, kind, &head);
        else if (kind == K_MAP)
            how = reach_map(w, inside, head.count / 2, at);
        if (how == FINE && index == (int64_t)place) {
            if (at + 1 == w->count)
                how = note(w, kind, &head);
            else if (kind == K_MAP)
                how = reach_map(w, inside, head.count / 2, at + 1);
            else if (kind == K_ARRAY)
                how = reach_array(w, inside, head.count, at + 1);
        }
        if (how == FINE && head.kind == K_MISSING && !skip(&r, head.count))
            return OUTSIDE;
    }
    return how == FINE && is_end ? note(w, K_ARRAY, NULL) : how;
}

static int reach_all(Reach *w, const Py_buffer *blob, const u64 *at, const u32 *length, u64 rows, const u32 *chosen, u64 count) {
    for (u64 i = 0; i < count; i++) {
        u32 row = w->row = chosen[i];
        Head head;
        if (row >= rows || at[row] > (u64)blob->len || length[row] > (u64)blob->len - at[row])
            return OUTSIDE;
        Reader r = {w->blob + at[row], w->blob + at[row] + length[row]};
        if (!take_head(&r, &head) || head.kind != K_MISSING || !head.is_map)
            return OUTSIDE;
        int how = reach_map(w, r, head.count / 2, 0);
        if (how != FINE)
            return how;
    }
    return FINE;
}

/* Reads (key, index) pairs; 0 with an error set when they are none. */
static int read_steps(PyObject *path, Step *steps, u32 *count) {
    if (!PyTuple_Check(path) || PyTuple_GET_SIZE(path) < 1 || PyTuple_GET_SIZE(path) > DEPTH_MAX) {
        PyErr_SetString(PyExc_TypeError, "a path is a tuple of 1 to 200 keys with their indexes");
        return 0;
    }
    *count = (u32)PyTuple_GET_SIZE(path);
    for (u32 i = 0; i < *count; i++) {
        const char *key;
        Py_ssize_t size;
        long long index;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(path, i), "y#L", &key, &size, &index))
            return 0;
        steps[i] = (Step){(const u8 *)key, (u64)size, index};
    }
    return 1;
}

/* (row, kind, payload, length) as bytes. */
static PyObject *reached_columns(const Reach *w) {
    Py_ssize_t count = (Py_ssize_t)w->reached;
    PyObject *row = PyBytes_FromStringAndSize(NULL, count * 4), *kind = PyBytes_FromStringAndSize(NULL, count);
    PyObject *payload = PyBytes_FromStringAndSize(NULL, count * 8), *length = PyBytes_FromStringAndSize(NULL, count * 4);
    PyObject *result = NULL;
    if (row && kind && payload && length) {
        for (Py_ssize_t i = 0; i < count; i++) {
            const Reached *one = &w->found[i];
            memcpy(PyBytes_AS_STRING(row) + 4 * i, &one->row, 4);
            PyBytes_AS_STRING(kind)[i] = (char)one->kind;
            memcpy(PyBytes_AS_STRING(payload) + 8 * i, &one->payload, 8);
            memcpy(PyBytes_AS_STRING(length) + 4 * i, &one->length, 4);
        }
        result = PyTuple_Pack(4, row, kind, payload, length);
    }
    Py_XDECREF(row);
    Py_XDECREF(kind);
    Py_XDECREF(payload);
    Py_XDECREF(length);
    return result;
}

static PyObject *fields_reach(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Buffers open = {.count = 0};
    Py_buffer *blob, *at, *length, *chosen;
    Step steps[DEPTH_MAX];
    Reach w = {.steps = steps};
    if (!takes("reach", count, 5) || !read_steps(args[4], steps, &w.count))
        return NULL;
    if (!(blob = open_one(&open, args[0], 1)) || !(at = open_one(&open, args[1], 8)) ||
        !(length = open_one(&open, args[2], 4)) || !(chosen = open_one(&open, args[3], 4)))
        return NULL;
    u64 rows = (u64)at->len / 8;
    if ((u64)length->len / 4 != rows)
        return unequal(&open);
    w.blob = blob->buf;
    int how;
    Py_BEGIN_ALLOW_THREADS
    how = reach_all(&w, blob, at->buf, length->buf, rows, chosen->buf, (u64)chosen->len / 4);
    Py_END_ALLOW_THREADS
    PyObject *result = how == FINE ? reached_columns(&w) : failed(how);
    PyMem_RawFree(w.found);
    close_all(&open);
    return result;
}

/* ---- The module. */

#ifndef KERNEL_SOURCE /* zlib's crc32 of this file, by setup.py: so that a test can tell a build that is not of this source */
#define KERNEL_SOURCE 0u
#endif

#define FAST(name) {#name, (PyCFunction)(void (*)(void))fields_##name, METH_FASTCALL, NULL}

static PyMethodDef fields_functions[] = {
    FAST(walk),       FAST(rank_keys),  FAST(rank_strings), FAST(join_strings),
    FAST(merge_keys), FAST(group),      FAST(reach),        {"merge_strings", fields_merge_strings, METH_O, NULL},
    FAST(tally),      FAST(weigh),
    {NULL, NULL, 0, NULL},
};

static int fields_make(PyObject *module) {
    /* The interpreter's own hash of bytes is seeded at random when it starts. */
    for (char i = 0; i < 2; i++) {
        PyObject *bytes = PyBytes_FromFormat("twinlog field index %d", (int)i);
        Py_hash_t hash = bytes ? PyObject_Hash(bytes) : -1;
        Py_XDECREF(bytes);
        if (hash == -1)
            return -1;
        secret[(int)i] = (u64)hash | 1;
    }
    PyObject *source = PyLong_FromUnsignedLong(KERNEL_SOURCE);
    int is_bad = !source || PyModule_AddObjectRef(module, "SOURCE", source) < 0;
    Py_XDECREF(source);
    return is_bad ? -1 : 0;
}

static PyModuleDef_Slot fields_slots[] = {{Py_mod_exec, fields_make}, {0, NULL}};

static struct PyModuleDef fields_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "storage._fields",
    .m_doc = "The native part of the field index; see storage/fields.c.",
    .m_methods = fields_functions,
    .m_slots = fields_slots,
};

PyMODINIT_FUNC PyInit__fields(void) { return PyModuleDef_Init(&fields_module); }
