/* Which of many vectors may be near another one, by the first columns of each, a byte a column.
 *
 * The product of two vectors is at most that of their first columns and the lengths of their rests (Cauchy,
 * Schwarz), and what rounding to bytes may have taken from the former. A row that comes to less than what is
 * near is passed over; the rest of it is never read.
 */
#include "native.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define QUICK __attribute__((target("avx2,fma")))
#define INLINED static inline __attribute__((always_inline)) QUICK
#define ROWS 4

/* Sums of sixteen products, in eight lanes. */
INLINED __m256i products(const int8_t *codes, const int16_t *query)
{
    const __m256i row = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)codes));
    return _mm256_madd_epi16(row, _mm256_loadu_si256((const __m256i *)query));
}

/* The products of four rows with the query. */
INLINED __m128i four(const int8_t *codes, const int16_t *query, size_t columns)
{
    __m256i sums[ROWS];
    for (int row = 0; row < ROWS; row++)
        sums[row] = _mm256_setzero_si256();
    for (size_t at = 0; at < columns; at += STRIDE)
        for (int row = 0; row < ROWS; row++)
            sums[row] = _mm256_add_epi32(sums[row], products(codes + row * columns + at, query + at));
    const __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}

/* The places of rows that may come to `least`; the number of rows is a multiple of four. */
QUICK static size_t sieve(const int8_t *codes, const float *scales, const float *rests, const float *errors,
                          const int16_t *query, size_t rows, size_t columns, float scale, float rest, float first,
                          float least, int32_t *places)
{
    size_t found = 0;
    for (size_t row = 0; row < rows; row += ROWS, codes += ROWS * columns) {
        const __m128 product = _mm_cvtepi32_ps(four(codes, query, columns));
        __m128 most = _mm_mul_ps(_mm_mul_ps(product, _mm_set1_ps(scale)), _mm_loadu_ps(scales + row));
        most = _mm_fmadd_ps(_mm_loadu_ps(rests + row), _mm_set1_ps(rest), most);
        most = _mm_fmadd_ps(_mm_loadu_ps(errors + row), _mm_set1_ps(first), most);
        for (int near = _mm_movemask_ps(_mm_cmpge_ps(most, _mm_set1_ps(least))); near; near &= near - 1)
            places[found++] = (int32_t)(row + (size_t)__builtin_ctz((unsigned)near));
    }
    return found;
}

/* passing(codes, scales, rests, errors, query, (scale, rest, first, least), places) -> how many
 *
 * codes    a buffer of rows by columns, a byte each; both are multiples, of four and of STRIDE
 * scales   for each row a float: what one of its bytes stands for; rests: the length of what is left out
 *          here; errors: the length of what rounding took
 * query    sixteen-bit numbers, one a column, none beyond 8191; scale, rest and first: the same of it, and
 *          the length of its first columns
 * places   where the places are written, four bytes each, as many as there are rows
 */
PyObject *passing(PyObject *module, PyObject *const *given, Py_ssize_t number)
{
    (void)module;
    enum { CODES, SCALES, RESTS, ERRORS, QUERY, PLACES, BUFFERS };
    static const int where[BUFFERS] = {0, 1, 2, 3, 4, 6};
    Py_buffer buffers[BUFFERS];
    float scale, rest, first, least;
    if (number != 7 || !PyTuple_Check(given[5])) {
        PyErr_SetString(PyExc_TypeError, "passing(codes, scales, rests, errors, query, numbers, places)");
        return NULL;
    }
    if (!PyArg_ParseTuple(given[5], "ffff", &scale, &rest, &first, &least))
        return NULL;
    int held = 0;
    for (; held < BUFFERS; held++)
        if (PyObject_GetBuffer(given[where[held]], &buffers[held], held == PLACES ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0)
            break;
    size_t found = 0;
    if (held == BUFFERS) {
        const size_t columns = (size_t)buffers[QUERY].len / sizeof(int16_t);
        const size_t rows = (size_t)buffers[SCALES].len / sizeof(float);
        int fits = columns && columns % STRIDE == 0 && rows % ROWS == 0 && rows <= INT32_MAX
            && (size_t)buffers[QUERY].len == columns * sizeof(int16_t) && (size_t)buffers[CODES].len == rows * columns
            && (size_t)buffers[PLACES].len >= rows * sizeof(int32_t);
        for (int of = SCALES; of <= ERRORS; of++)
            fits = fits && (size_t)buffers[of].len == rows * sizeof(float);
        if (fits) {
            Py_BEGIN_ALLOW_THREADS
            found = sieve(buffers[CODES].buf, buffers[SCALES].buf, buffers[RESTS].buf, buffers[ERRORS].buf,
                          buffers[QUERY].buf, rows, columns, scale, rest, first, least, buffers[PLACES].buf);
            Py_END_ALLOW_THREADS
        } else
            PyErr_SetString(PyExc_ValueError, "the buffers are not of one number of rows and columns");
    }
    while (held > 0)
        PyBuffer_Release(&buffers[--held]);
    return PyErr_Occurred() ? NULL : PyLong_FromSize_t(found);
}

#endif
