/* Reading the documents of a query: many records of shard logs in one call, checked, and held against what they must contain. Optional.
 *
 * Built as storage._fetching when a compiler is there and chosen by storage/native.py. Its pure twin is in
 * storage/shard/fetching.py, whose promise it keeps; tests/storage/test_fetching.py holds the two equal. The layout of a record is drawn
 * in storage/shard/record.py. Knows descriptors and places, no file names, no clock, no thread.
 *
 * The interpreter is let go while a stretch of records is read, checked and searched, and taken again to make objects of them: once for
 * some hundred kilobytes, not once a record. */

#define _GNU_SOURCE /* preadv2, memmem */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "crc32c.h"

#if !defined(__GNUC__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernel is for GCC or Clang on a little-endian machine; elsewhere the pure functions serve"
#endif

static inline u32 load32(const void *at) { u32 v; memcpy(&v, at, 4); return v; }

#define SHARD_HEADER 40
#define SHARD_ID_MAX 8192
#define DOCUMENT_MAX (16u * 1024 * 1024)
#define BODY_UNCHECKED 1
#define OP_PUT 1
#define STRETCH_BYTES (256 * 1024) /* read before objects are made of it */
#define NEEDLES_MAX 64

enum { UNREAD, SOUND, LACKING, UNSOUND }; /* of a record */
enum { READ, WOULD_WAIT, NO_MEMORY, FAILED };

typedef struct {
    const int32_t *descriptor; /* of the files, by number */
    const u32 *file;
    const u64 *offset;
    const u32 *length;
    Py_ssize_t rows, files;
} Places;

typedef struct {
    const char *data;
    size_t size;
} Needle;

/* Reads one record whole. Negative: an error, errno says which; 0: the file ends before it does. */
static int read_whole(int descriptor, u8 *out, u32 length, u64 offset, int flags) {
    for (u32 done = 0; done < length;) {
        struct iovec into = {out + done, length - done};
        ssize_t got = preadv2(descriptor, &into, 1, (off_t)(offset + done), flags);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            return 0;
        done += (u32)got;
    }
    return 1;
}

static int holds(const u8 *record, u32 length, const Needle *needles, int count) {
    u32 body = SHARD_HEADER + ((u32)record[12] | (u32)record[13] << 8);
    for (int i = 0; i < count; i++)
        if (!memmem(record + body, length - body, needles[i].data, needles[i].size))
            return 0;
    return 1;
}

static int is_sound(const u8 *record, u32 length) {
    if (length < SHARD_HEADER || crc32c(record + 4, SHARD_HEADER - 4) != load32(record))
        return 0;
    u64 doc_len = load32(record + 8), id_len = (u64)record[12] | (u64)record[13] << 8;
    if (record[14] != OP_PUT || id_len > SHARD_ID_MAX || doc_len > DOCUMENT_MAX || SHARD_HEADER + id_len + doc_len != length)
        return 0;
    return record[15] & BODY_UNCHECKED || crc32c(record + SHARD_HEADER, id_len + doc_len) == load32(record + 4);
}

/* Records first to last - 1, one after the other into the room. What is not in memory is asked for all at once before it is waited for. */
static int read_stretch(const Places *p, Py_ssize_t first, Py_ssize_t last, u8 *room, int waits, const Needle *needles, int count, u8 *state) {
    int is_cold = 0;
    u8 *out = room;
    for (Py_ssize_t i = first; i < last; out += p->length[i++]) {
        int got = read_whole(p->descriptor[p->file[i]], out, p->length[i], p->offset[i], RWF_NOWAIT);
        state[i] = got > 0 ? SOUND : got == 0 ? UNSOUND : UNREAD;
        if (got >= 0)
            continue;
        if (errno != EAGAIN && errno != EOPNOTSUPP && errno != ENOSYS)
            return FAILED;
        if (!waits)
            return WOULD_WAIT;
        is_cold = 1;
        posix_fadvise(p->descriptor[p->file[i]], (off_t)p->offset[i], p->length[i], POSIX_FADV_WILLNEED);
    }
    out = room;
    for (Py_ssize_t i = first; is_cold && i < last; out += p->length[i++]) {
        if (state[i] != UNREAD)
            continue;
        int got = read_whole(p->descriptor[p->file[i]], out, p->length[i], p->offset[i], 0);
        if (got < 0)
            return FAILED;
        state[i] = got > 0 ? SOUND : UNSOUND;
    }
    out = room;
    for (Py_ssize_t i = first; i < last; out += p->length[i++]) {
        if (state[i] == SOUND)
            state[i] = !is_sound(out, p->length[i]) ? UNSOUND : holds(out, p->length[i], needles, count) ? SOUND : LACKING;
    }
    return READ;
}

/* Puts what was read into the list; 1: go on, 0: a record is not sound, -1: an error is set. */
static int append_stretch(const Places *p, Py_ssize_t first, Py_ssize_t last, const u8 *room, const u8 *state, PyObject *list) {
    for (Py_ssize_t i = first; i < last; room += p->length[i++]) {
        if (state[i] == UNSOUND)
            return 0;
        PyObject *row;
        if (state[i] == LACKING) {
            row = Py_NewRef(Py_None);
        } else {
            u32 id_len = (u32)room[12] | (u32)room[13] << 8, doc_len = load32(room + 8);
            const char *body = (const char *)room + SHARD_HEADER;
            row = Py_BuildValue("(y#y#)", body, (Py_ssize_t)id_len, body + id_len, (Py_ssize_t)doc_len);
        }
        int failed = !row || PyList_Append(list, row) < 0;
        Py_XDECREF(row);
        if (failed)
            return -1;
    }
    return 1;
}

static PyObject *fetch_all(const Places *p, int waits, const Needle *needles, int count) {
    PyObject *list = PyList_New(0);
    u8 *state = PyMem_RawMalloc((size_t)p->rows + 1), *room = NULL;
    u64 held = 0;
    int how = list && state ? READ : NO_MEMORY;
    for (Py_ssize_t first = 0, last; how == READ && first < p->rows; first = last) {
        u64 size = 0;
        for (last = first; last < p->rows && (last == first || size + p->length[last] <= STRETCH_BYTES); last++)
            size += p->length[last];
        if (size > held) {
            PyMem_RawFree(room);
            held = size > STRETCH_BYTES ? size : STRETCH_BYTES;
            if (!(room = PyMem_RawMalloc(held))) {
                how = NO_MEMORY;
                break;
            }
        }
        Py_BEGIN_ALLOW_THREADS
        how = read_stretch(p, first, last, room, waits, needles, count, state);
        Py_END_ALLOW_THREADS
        if (how != READ)
            break;
        int goes_on = append_stretch(p, first, last, room, state, list);
        if (goes_on < 0)
            Py_CLEAR(list);
        if (goes_on <= 0)
            break;
    }
    int error = errno;
    PyMem_RawFree(state);
    PyMem_RawFree(room);
    if (how == READ)
        return list;
    Py_XDECREF(list);
    if (how == WOULD_WAIT)
        Py_RETURN_NONE;
    if (how == NO_MEMORY)
        return PyErr_NoMemory();
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* ---- Arguments: descriptors (i32), file (u32), offset (u64), length (u32), whether to wait, and a tuple of bytes. */

#define COLUMNS 4

static void release(Py_buffer *view, int open) {
    while (open--)
        PyBuffer_Release(&view[open]);
}

static PyObject *refused(Py_buffer *view, int open, const char *what) {
    release(view, open);
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, what);
    return NULL;
}

static PyObject *fetching_fetch(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    static const Py_ssize_t width[COLUMNS] = {4, 4, 8, 4};
    Py_buffer view[COLUMNS];
    Needle needles[NEEDLES_MAX];
    if (count != COLUMNS + 2 || !PyTuple_Check(args[COLUMNS + 1]) || PyTuple_GET_SIZE(args[COLUMNS + 1]) > NEEDLES_MAX) {
        PyErr_SetString(PyExc_TypeError, "fetch() takes four columns, whether to wait, and a tuple of at most 64 bytes objects");
        return NULL;
    }
    int waits = PyObject_IsTrue(args[COLUMNS]), held = (int)PyTuple_GET_SIZE(args[COLUMNS + 1]);
    if (waits < 0)
        return NULL;
    for (int i = 0; i < held; i++) {
        PyObject *needle = PyTuple_GET_ITEM(args[COLUMNS + 1], i);
        if (!PyBytes_Check(needle)) {
            PyErr_SetString(PyExc_TypeError, "what records must hold is bytes");
            return NULL;
        }
        needles[i] = (Needle){PyBytes_AS_STRING(needle), (size_t)PyBytes_GET_SIZE(needle)};
    }
    for (int i = 0; i < COLUMNS; i++) {
        if (PyObject_GetBuffer(args[i], &view[i], PyBUF_SIMPLE) < 0)
            return refused(view, i, "");
        if (view[i].len % width[i])
            return refused(view, i + 1, "a column has no whole number of elements");
    }
    Places p = {view[0].buf, view[1].buf, view[2].buf, view[3].buf, view[1].len / 4, view[0].len / 4};
    if (view[2].len / 8 != p.rows || view[3].len / 4 != p.rows)
        return refused(view, COLUMNS, "columns of one table must have one length");
    for (Py_ssize_t i = 0; i < p.rows; i++)
        if (p.file[i] >= p.files || p.descriptor[p.file[i]] < 0 || p.length[i] > SHARD_HEADER + SHARD_ID_MAX + DOCUMENT_MAX)
            return refused(view, COLUMNS, "a place lies in no file, or is longer than a record");
    PyObject *found = fetch_all(&p, waits, needles, held);
    release(view, COLUMNS);
    return found;
}

/* ---- The module. */

#ifndef KERNEL_SOURCE /* zlib's crc32 of this file, by setup.py: so that a test can tell a build that is not of this source */
#define KERNEL_SOURCE 0u
#endif

static PyMethodDef fetching_functions[] = {
    {"fetch", (PyCFunction)(void (*)(void))fetching_fetch, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static int fetching_make(PyObject *module) {
    choose_crc();
    PyObject *source = PyLong_FromUnsignedLong(KERNEL_SOURCE);
    int is_bad = !source || PyModule_AddObjectRef(module, "SOURCE", source) < 0;
    Py_XDECREF(source);
    return is_bad ? -1 : 0;
}

static PyModuleDef_Slot fetching_slots[] = {{Py_mod_exec, fetching_make}, {0, NULL}};

static struct PyModuleDef fetching_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "storage._fetching",
    .m_doc = "Reading the documents of a query; see storage/fetching.c.",
    .m_methods = fetching_functions,
    .m_slots = fetching_slots,
};

PyMODINIT_FUNC PyInit__fetching(void) { return PyModuleDef_Init(&fetching_module); }
