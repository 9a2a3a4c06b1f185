/*
 * Documents to Extended JSON in bulk: storage._exchange. What it means stands in storage/exchange/extjson.py, which also writes whatever is not taken
 * here: texts() goes through documents in order, stops before the first that is not of a common shape and says where. It never makes an
 * error about a document. Its pure twin, which takes nothing, stands in storage/exchange/encoded.py.
 *
 * Not taken: Decimal128, regular expressions, code, texts that are no UTF-8, integers beyond 63 bits and a sign, nesting beyond DEPTH_MAX, and
 * whatever is no document. It trusts that no key stands twice in a map: its documents are the engine's own.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>

#include "growing.h"

#define MS_YEAR_10000 253402300800000ll

/* The day of the proleptic Gregorian calendar that is so many after 1970-01-01 (as days_of in packing.c). */
static void date_of(int64_t days, int *year, int *month, int *day) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097, of_era = days - era * 146097;
    int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * years + years / 4 - years / 100), shifted = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted + (shifted < 10 ? 3 : -9));
    *year = (int)(years + era * 400 + (*month <= 2));
}

/* ---- MessagePack to text. Every function gives 0 when it does not take what it meets, or with an error set. */

typedef struct {
    Out out;
    const u8 *at, *end;    /* what is read */
    int canonical, indent; /* indent: the column of the document's own level; below 0 all stands on one line */
    int level;
    PyThreadState *thread; /* of who gave up the interpreter's lock meanwhile */
    const u8 *tabooed; /* a key that the document itself may not have */
    Py_ssize_t tabooed_size;
} Writer;

static int line(Writer *w) {
    if (w->indent < 0)
        return 1;
    size_t blanks = (size_t)(w->indent + 2 * w->level);
    if (!need(&w->out, blanks + 1))
        return 0;
    w->out.data[w->out.size] = '\n';
    memset(w->out.data + w->out.size + 1, ' ', blanks);
    w->out.size += blanks + 1;
    return 1;
}

static int opened(Writer *w, char bracket) {
    w->level++;
    return put_byte(&w->out, (u8)bracket);
}

static int closed(Writer *w, char bracket) {
    w->level--;
    return line(w) && put_byte(&w->out, (u8)bracket);
}

static int colon(Writer *w) { return w->indent < 0 ? PUT(&w->out, ":") : PUT(&w->out, ": "); }

/* A name of ours, which needs no escapes, after what stands before it. */
static int named(Writer *w, const char *before, const char *name) {
    return put(&w->out, before, strlen(before)) && line(w) && PUT(&w->out, "\"") && put(&w->out, name, strlen(name)) &&
           PUT(&w->out, "\"") && colon(w);
}

static int shape(Writer *w, const char *name) { return opened(w, '{') && named(w, "", name); }

static int quoted(Writer *w, const char *text, size_t size) {
    return PUT(&w->out, "\"") && put(&w->out, text, size) && PUT(&w->out, "\"");
}

#define PIECE 4096

/* A piece of a text, escaped as json.dumps does it; gives the high bits of its bytes. At worst every byte is an escape of six. */
static u64 escaped(Out *o, const u8 *at, const u8 *end) {
    static const char hex[] = "0123456789abcdef";
    u8 *to = o->data + o->size;
    u64 high = 0;
    while (at < end) {
        while (end - at >= 8) {
            u64 word = load64(at);
            if (has_special(word))
                break;
            high |= word & HIGH;
            memcpy(to, &word, 8);
            at += 8;
            to += 8;
        }
        if (at == end)
            break;
        u8 c = *at++;
        high |= c & 0x80;
        if (c >= 0x20 && c != '"' && c != '\\') {
            *to++ = c;
            continue;
        }
        *to++ = '\\';
        switch (c) {
        case '"': case '\\': *to++ = c; break;
        case '\n': *to++ = 'n'; break;
        case '\r': *to++ = 'r'; break;
        case '\t': *to++ = 't'; break;
        case '\f': *to++ = 'f'; break;
        case '\b': *to++ = 'b'; break;
        default:
            memcpy(to, "u00", 3);
            to[3] = (u8)hex[c >> 4];
            to[4] = (u8)hex[c & 15];
            to += 5;
        }
    }
    o->size = (size_t)(to - o->data);
    return high;
}

static int text_out(Writer *w, const u8 *at, size_t size) {
    const u8 *end = at + size;
    u64 high = 0;
    if (!PUT(&w->out, "\""))
        return 0;
    for (const u8 *piece = at; piece < end; piece += PIECE) {
        const u8 *until = end - piece > PIECE ? piece + PIECE : end;
        if (!need(&w->out, (size_t)(until - piece) * 6))
            return 0;
        high |= escaped(&w->out, piece, until);
    }
    return PUT(&w->out, "\"") && (!high || is_utf8(at, end));
}

/* The digits of a number at the end of a buffer; gives where they begin. */
static char *digits(char *end, u64 value) {
    do
        *--end = (char)('0' + value % 10);
    while (value /= 10);
    return end;
}

static int int_out(Writer *w, int64_t value) {
    char text[24], *end = text + sizeof text, *at = digits(end, value < 0 ? 0 - (u64)value : (u64)value);
    if (value < 0)
        *--at = '-';
    if (!w->canonical)
        return put(&w->out, at, (size_t)(end - at));
    return shape(w, value >= INT32_MIN && value <= INT32_MAX ? "$numberInt" : "$numberLong") && quoted(w, at, (size_t)(end - at)) && closed(w, '}');
}

typedef unsigned __int128 u128;

/* The shortest text that is read back as the same double, as repr() writes it; 0 when it is not found by whole numbers of 128 bits: then the
   value is no usual one, or a power of two, whose neighbours are not equally far. With value = m × 2^-s and 17 digits before the point of
   value × 10^k, the decimals that are read back as it lie within (2m ± 1) × 10^k / 2^(s+1); the nearest ones of 17, 16, ... digits are tried while they do. */
static int short_double(double value, char *text, size_t *size) {
    double magnitude = fabs(value);
    u64 bits, power = 1;
    int k = 16, s, exponent;
    if (magnitude == 0) {
        *size = (size_t)snprintf(text, 8, "%s", signbit(value) ? "-0.0" : "0.0");
        return 1;
    }
    if (!(magnitude >= 1e-4 && magnitude < 1e15))
        return 0;
    memcpy(&bits, &magnitude, 8);
    s = 1075 - (int)(bits >> 52);
    u64 m = (bits & ((1ull << 52) - 1)) | 1ull << 52;
    if (m == 1ull << 52)
        return 0;
    for (double unit = 10; magnitude >= unit; unit *= 10) /* exact: no power of ten up to 10^22 is rounded */
        k--;
    for (double scaled = magnitude; scaled < 1; scaled *= 10) /* at a power of ten this may be one too many: 18 digits do no harm */
        k++;
    for (int i = 0; i < (k < 19 ? k : 19); i++)
        power *= 10;
    u128 scale = (u128)power * (k > 19 ? 10 : 1), exact = m * scale * 2; /* 10^k and value × 10^k × 2^(s+1): k is 20 at most */
    u128 low = exact - scale, high = exact + scale, half = (u128)1 << s;
    u64 whole = 0, step = 1;
    int is_even = !(m & 1), places = k;
    for (;; step *= 10) { /* multiples of step, in units of 2^(s+1) */
        u64 floor = (u64)(exact >> (s + 1)) / step * step, nearest;
        u128 rest = exact - ((u128)floor << (s + 1)), middle = half * step;
        nearest = rest > middle || (rest == middle && floor / step % 2) ? floor + step : floor;
        u128 found = (u128)nearest << (s + 1);
        if (!(is_even ? found >= low && found <= high : found > low && found < high))
            break;
        whole = nearest;
        if (step > 1)
            places--;
        if (places < 0 || !whole)
            return 0;
    }
    if (!whole)
        return 0;
    step /= 10;
    whole /= step;
    char room[48], *end = room + sizeof room, *at;
    for (; places > 1 && whole % 10 == 0; places--)
        whole /= 10;
    exponent = places;
    at = end;
    for (; exponent > 0; exponent--, whole /= 10)
        *--at = (char)('0' + whole % 10);
    if (at == end)
        *--at = '0';
    *--at = '.';
    at = digits(at, whole);
    if (signbit(value))
        *--at = '-';
    *size = (size_t)(end - at);
    memcpy(text, at, *size);
    return 1;
}

static int double_out(Writer *w, double value) {
    char text[48];
    const char *found = text;
    char *made = NULL;
    size_t size = 0;
    int is_plain = isfinite(value);
    if (isnan(value))
        found = "NaN";
    else if (!is_plain)
        found = value > 0 ? "Infinity" : "-Infinity";
    else if (!short_double(value, text, &size)) {
        PyEval_RestoreThread(w->thread);
        made = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
        if (made && strlen(made) < sizeof text)
            strcpy(text, made);
        else
            found = NULL;
        PyMem_Free(made);
        w->thread = PyEval_SaveThread();
        if (!found)
            return 0;
    }
    if (!size)
        size = strlen(found);
    if (is_plain && !w->canonical)
        return put(&w->out, found, size);
    return shape(w, "$numberDouble") && quoted(w, found, size) && closed(w, '}');
}

static int binary_out(Writer *w, const u8 *data, size_t size, int subtype) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char kind[3];
    Out *o = &w->out;
    snprintf(kind, sizeof kind, "%02x", subtype);
    if (!shape(w, "$binary") || !shape(w, "base64") || !need(o, size / 3 * 4 + 6))
        return 0;
    u8 *to = o->data + o->size;
    *to++ = '"';
    for (; size >= 3; data += 3, size -= 3) {
        u32 word = (u32)data[0] << 16 | (u32)data[1] << 8 | data[2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *to++ = (u8)letters[word >> shift & 63];
    }
    if (size) {
        u32 word = (u32)data[0] << 16 | (size == 2 ? (u32)data[1] << 8 : 0);
        *to++ = (u8)letters[word >> 18];
        *to++ = (u8)letters[word >> 12 & 63];
        *to++ = size == 2 ? (u8)letters[word >> 6 & 63] : '=';
        *to++ = '=';
    }
    *to++ = '"';
    o->size = (size_t)(to - o->data);
    return named(w, ",", "subType") && quoted(w, kind, 2) && closed(w, '}') && closed(w, '}');
}

static int date_out(Writer *w, int64_t ms) {
    char text[40];
    if (!shape(w, "$date"))
        return 0;
    if (w->canonical || ms < 0 || ms >= MS_YEAR_10000) {
        int size = snprintf(text, sizeof text, "%lld", (long long)ms);
        return shape(w, "$numberLong") && quoted(w, text, (size_t)size) && closed(w, '}') && closed(w, '}');
    }
    int year, month, day, rest = (int)(ms % 86400000);
    date_of(ms / 86400000, &year, &month, &day);
    int part[] = {year / 100, year % 100, month, day, rest / 3600000, rest / 60000 % 60, rest / 1000 % 60};
    static const u8 place[] = {0, 2, 5, 8, 11, 14, 17};
    memcpy(text, "0000-00-00T00:00:00", 20);
    for (int i = 0; i < 7; i++) {
        text[place[i]] = (char)('0' + part[i] / 10);
        text[place[i] + 1] = (char)('0' + part[i] % 10);
    }
    size_t size = 19;
    if (rest % 1000)
        size += (size_t)snprintf(text + size, 5, ".%03d", rest % 1000);
    text[size++] = 'Z';
    return quoted(w, text, size) && closed(w, '}');
}

static u64 big(const u8 *at, int size) {
    u64 value = 0;
    for (int i = 0; i < size; i++)
        value = value << 8 | at[i];
    return value;
}

static int extension_out(Writer *w, int code, const u8 *data, size_t size) {
    static const char hex[] = "0123456789abcdef";
    char text[32];
    switch (code) {
    case 1:
        return size == 8 && date_out(w, (int64_t)big(data, 8));
    case 2:
        for (size_t i = 0; size == 12 && i < 12; i++) {
            text[2 * i] = hex[data[i] >> 4];
            text[2 * i + 1] = hex[data[i] & 15];
        }
        return size == 12 && shape(w, "$oid") && quoted(w, text, 24) && closed(w, '}');
    case 3:
        return size == 16 && binary_out(w, data, size, 4);
    case 5: {
        if (size != 8)
            return 0;
        int first = snprintf(text, sizeof text, "%u", (unsigned)big(data, 4));
        if (!shape(w, "$timestamp") || !shape(w, "t") || !put(&w->out, text, (size_t)first))
            return 0;
        int second = snprintf(text, sizeof text, "%u", (unsigned)big(data + 4, 4));
        return named(w, ",", "i") && put(&w->out, text, (size_t)second) && closed(w, '}') && closed(w, '}');
    }
    case 7: case 8:
        return size == 0 && shape(w, code == 7 ? "$minKey" : "$maxKey") && PUT(&w->out, "1") && closed(w, '}');
    case 9:
        return size && data[0] && !(data[0] == 4 && size == 17) && binary_out(w, data + 1, size - 1, data[0]);
    }
    return 0;
}

static int value_out(Writer *w, int depth);

/* The head of a container or of bytes: how many, from a number of so many bytes that is read. */
static int take_size(Writer *w, int bytes, u64 *size) {
    if (w->end - w->at < bytes)
        return 0;
    *size = big(w->at, bytes);
    w->at += bytes;
    return 1;
}

static int take_bytes(Writer *w, u64 size, const u8 **data) {
    if ((u64)(w->end - w->at) < size)
        return 0;
    *data = w->at;
    w->at += size;
    return 1;
}

static int key_out(Writer *w, int depth) {
    const u8 *data;
    u64 size;
    if (w->at == w->end)
        return 0;
    u8 first = *w->at++;
    if (first >= 0xA0 && first < 0xC0)
        size = first & 31;
    else if (first < 0xD9 || first > 0xDB || !take_size(w, 1 << (first - 0xD9), &size))
        return 0;
    if (!take_bytes(w, size, &data))
        return 0;
    if (depth == 1 && w->tabooed_size && size == (u64)w->tabooed_size && memcmp(data, w->tabooed, size) == 0)
        return 0;
    return text_out(w, data, size) && colon(w);
}

/* depth: of this map or array, 1 for the document. */
static int items_out(Writer *w, u64 count, int depth, int is_map) {
    if (depth > DEPTH_MAX || !opened(w, is_map ? '{' : '['))
        return 0;
    for (u64 i = 0; i < count; i++)
        if ((i && !PUT(&w->out, ",")) || !line(w) || (is_map && !key_out(w, depth)) || !value_out(w, depth))
            return 0;
    if (count)
        return closed(w, is_map ? '}' : ']');
    w->level--;
    return put_byte(&w->out, is_map ? '}' : ']');
}

/* depth: of the map or array around the value. */
static int value_out(Writer *w, int depth) {
    const u8 *data;
    u64 size;
    if (w->at == w->end)
        return 0;
    u8 first = *w->at++;
    if (first < 0x80 || first >= 0xE0)
        return int_out(w, (int8_t)first);
    if (first < 0xA0)
        return items_out(w, first & 15, depth + 1, first < 0x90);
    if (first < 0xC0)
        return take_bytes(w, first & 31, &data) && text_out(w, data, first & 31);
    switch (first) {
    case 0xC0:
        return PUT(&w->out, "null");
    case 0xC2:
        return PUT(&w->out, "false");
    case 0xC3:
        return PUT(&w->out, "true");
    case 0xC4: case 0xC5: case 0xC6:
        return take_size(w, 1 << (first - 0xC4), &size) && take_bytes(w, size, &data) && binary_out(w, data, size, 0);
    case 0xC7: case 0xC8: case 0xC9:
        return take_size(w, 1 << (first - 0xC7), &size) && take_bytes(w, size + 1, &data) && extension_out(w, (int8_t)data[0], data + 1, size);
    case 0xCA: {
        float narrow;
        if (!take_size(w, 4, &size))
            return 0;
        u32 bits = (u32)size;
        memcpy(&narrow, &bits, 4);
        return double_out(w, narrow);
    }
    case 0xCB: {
        double value;
        if (!take_size(w, 8, &size))
            return 0;
        memcpy(&value, &size, 8);
        return double_out(w, value);
    }
    case 0xCC: case 0xCD: case 0xCE: case 0xCF:
        return take_size(w, 1 << (first - 0xCC), &size) && size <= INT64_MAX && int_out(w, (int64_t)size);
    case 0xD0: case 0xD1: case 0xD2: case 0xD3: {
        int unused = 64 - (8 << (first - 0xD0));
        return take_size(w, 1 << (first - 0xD0), &size) && int_out(w, (int64_t)(size << unused) >> unused);
    }
    case 0xD4: case 0xD5: case 0xD6: case 0xD7: case 0xD8:
        size = 1u << (first - 0xD4);
        return take_bytes(w, size + 1, &data) && extension_out(w, (int8_t)data[0], data + 1, size);
    case 0xD9: case 0xDA: case 0xDB:
        return take_size(w, 1 << (first - 0xD9), &size) && take_bytes(w, size, &data) && text_out(w, data, size);
    case 0xDC: case 0xDD:
        return take_size(w, first == 0xDC ? 2 : 4, &size) && items_out(w, size, depth + 1, 0);
    case 0xDE: case 0xDF:
        return take_size(w, first == 0xDE ? 2 : 4, &size) && items_out(w, size, depth + 1, 1);
    }
    return 0;
}

/* A whole document with what stands around it. is_cut: its opening bracket is in `before` already, with more behind it. */
static int document_out(Writer *w, const Py_buffer *doc, const Py_buffer *before, const Py_buffer *after, int is_cut) {
    w->at = doc->buf;
    w->end = w->at + doc->len;
    w->level = 0;
    if (w->at == w->end || !((*w->at & 0xF0) == 0x80 || *w->at == 0xDE || *w->at == 0xDF) || (is_cut && *w->at == 0x80))
        return 0;
    if (!put(&w->out, before->buf, (size_t)before->len))
        return 0;
    size_t start = w->out.size;
    if (!value_out(w, 0) || w->at != w->end)
        return 0;
    if (is_cut) {
        memmove(w->out.data + start, w->out.data + start + 1, w->out.size - start - 1);
        w->out.size--;
    }
    return put(&w->out, after->buf, (size_t)after->len);
}

#define DOCUMENTS_MAX 4096 /* in one go, with the buffers of all of them held */

/* Without the interpreter's lock: other threads receive or read meanwhile. Gives how many documents were taken. */
static Py_ssize_t write_all(Writer *w, const Py_buffer *docs, Py_ssize_t count, const Py_buffer *before, const Py_buffer *after, int is_cut) {
    Py_ssize_t done = 0;
    w->thread = PyEval_SaveThread();
    for (; done < count; done++) {
        size_t start = w->out.size;
        if (!document_out(w, &docs[done], before, after, is_cut)) {
            w->out.size = start;
            break;
        }
    }
    PyEval_RestoreThread(w->thread);
    if (w->out.is_short)
        PyErr_NoMemory();
    return done;
}

/* texts(documents, first, before, after, tabooed, is_cut, canonical, indent) -> (text, the index of the first document that is not in it) */
static PyObject *exchange_texts(PyObject *module, PyObject *args) {
    PyObject *given, *result = NULL;
    Py_buffer before, after, tabooed, *docs = NULL;
    Py_ssize_t first, count = 0, wanted = 0;
    int is_cut;
    Writer w = {.indent = -1};
    if (!PyArg_ParseTuple(args, "Ony*y*y*ppi:texts", &given, &first, &before, &after, &tabooed, &is_cut, &w.canonical, &w.indent))
        return NULL;
    PyObject *documents = PySequence_Tuple(given); /* a list could change while the lock is not held */
    w.tabooed = tabooed.buf;
    w.tabooed_size = tabooed.len;
    if (documents && (first < 0 || first > PyTuple_GET_SIZE(documents) || w.indent > 1000)) {
        PyErr_SetString(PyExc_ValueError, "the first document has an index, and an indent is short");
        Py_CLEAR(documents);
    }
    if (documents) {
        wanted = PyTuple_GET_SIZE(documents) - first;
        wanted = wanted > DOCUMENTS_MAX ? DOCUMENTS_MAX : wanted;
        docs = PyMem_Calloc((size_t)wanted + 1, sizeof(Py_buffer));
        if (!docs)
            PyErr_NoMemory();
        while (docs && count < wanted && PyObject_GetBuffer(PyTuple_GET_ITEM(documents, first + count), &docs[count], PyBUF_SIMPLE) == 0)
            count++;
        if (docs && count == wanted) {
            Py_ssize_t done = write_all(&w, docs, count, &before, &after, is_cut);
            if (!PyErr_Occurred())
                result = Py_BuildValue("y#n", w.out.data ? (char *)w.out.data : "", (Py_ssize_t)w.out.size, first + done);
        }
        while (count)
            PyBuffer_Release(&docs[--count]);
        PyMem_Free(docs);
    }
    Py_XDECREF(documents);
    PyMem_RawFree(w.out.data);
    PyBuffer_Release(&before);
    PyBuffer_Release(&after);
    PyBuffer_Release(&tabooed);
    return result;
}

/* ---- The module. */

#ifndef KERNEL_SOURCE /* zlib's crc32 of this file, by setup.py: so that a test can tell a kernel that was not built again */
#define KERNEL_SOURCE 0u
#endif

static PyMethodDef exchange_functions[] = {
    {"texts", exchange_texts, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int exchange_make(PyObject *module) {
    PyObject *source = PyLong_FromUnsignedLong(KERNEL_SOURCE);
    int failed = !source || PyModule_AddObjectRef(module, "SOURCE", source) < 0;
    Py_XDECREF(source);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot exchange_slots[] = {{Py_mod_exec, exchange_make}, {0, NULL}};

static struct PyModuleDef exchange_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "storage._exchange",
    .m_doc = "Documents to text in bulk; see storage/exchange.c.",
    .m_methods = exchange_functions,
    .m_slots = exchange_slots,
};

PyMODINIT_FUNC PyInit__exchange(void) { return PyModuleDef_Init(&exchange_module); }
