/* The layers of a BERT of MiniLM's shape over the tokens of a few texts, in single precision.
 *
 * The weights of a layer lie one behind the other as `minilm.py` packs them: a matrix as panels of PANEL
 * columns, each panel row by row, so that a product reads them once, in order. A block of a product is six
 * rows by one panel: twelve registers of sums, for each token's number two multiplications.
 */
#include "native.h"

#include <math.h>
#include <string.h>

#define WIDTH 384
#define HEADS 12
#define HEAD (WIDTH / HEADS)
#define INNER (4 * WIDTH)
#define LANES 8
#define LAYER_SIZE (WIDTH * (3 * WIDTH + WIDTH + 2 * INNER) + 3 * WIDTH + 3 * WIDTH + INNER + 3 * WIDTH)

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

/* Floats that are read and written wherever they lie. */
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int whole __attribute__((vector_size(4 * LANES)));

#define QUICK __attribute__((target("avx2,fma")))
#define INLINED static inline __attribute__((always_inline)) QUICK
#define AT(place) (*(lanes *)(place))
#define OF(place) (*(const lanes *)(place))
/* How far ahead weights are asked for: 1,024 floats, a page of memory. */
#define AHEAD 1024

#define BEGIN(r) lanes sum_##r##_0 = OF(bias), sum_##r##_1 = OF(bias + LANES);
#define MULTIPLY(r) \
    if (rows > r) { \
        const float one = from[r * inputs + i]; \
        sum_##r##_0 += one * left; \
        sum_##r##_1 += one * right; \
    }
#define PUT(r) \
    if (rows > r) { \
        AT(into + r * outputs) = sum_##r##_0; \
        AT(into + r * outputs + LANES) = sum_##r##_1; \
    }

/* Up to six rows by one panel; `rows` is a constant wherever this is inlined. */
INLINED void block(const int rows, const float *from, size_t inputs, const float *panel, const float *bias,
                   float *into, size_t outputs)
{
    BEGIN(0) BEGIN(1) BEGIN(2) BEGIN(3) BEGIN(4) BEGIN(5)
    for (size_t i = 0; i < inputs; i++, panel += PANEL) {
        const lanes left = OF(panel), right = OF(panel + LANES);
        __builtin_prefetch(panel + AHEAD);
        MULTIPLY(0) MULTIPLY(1) MULTIPLY(2) MULTIPLY(3) MULTIPLY(4) MULTIPLY(5)
    }
    PUT(0) PUT(1) PUT(2) PUT(3) PUT(4) PUT(5)
}

/* `into` = `from` times a matrix, and its bias, both of which are passed over. */
QUICK static void dense(const float **weights, const float *from, size_t rows, size_t inputs, float *into,
                        size_t outputs)
{
    const float *panel = *weights, *bias = panel + inputs * outputs;
    *weights = bias + outputs;
    for (size_t column = 0; column < outputs; column += PANEL, panel += PANEL * inputs) {
        for (size_t row = 0, blocks = (rows + 5) / 6; blocks > 0; blocks--) {
            const size_t some = (rows - row + blocks - 1) / blocks;
            const float *first = from + row * inputs;
            float *out = into + row * outputs + column;
            switch (some) {
            case 1: block(1, first, inputs, panel, bias + column, out, outputs); break;
            case 2: block(2, first, inputs, panel, bias + column, out, outputs); break;
            case 3: block(3, first, inputs, panel, bias + column, out, outputs); break;
            case 4: block(4, first, inputs, panel, bias + column, out, outputs); break;
            case 5: block(5, first, inputs, panel, bias + column, out, outputs); break;
            default: block(6, first, inputs, panel, bias + column, out, outputs);
            }
            row += some;
        }
    }
}

INLINED float total(lanes of)
{
    return ((of[0] + of[4]) + (of[1] + of[5])) + ((of[2] + of[6]) + (of[3] + of[7]));
}

/* e to the power of each, of none above 0, to single precision (Cephes, expf.c). */
INLINED lanes exponential(lanes of)
{
    of = _mm256_max_ps(of, _mm256_set1_ps(-87.0f));
    const float round = 12582912.0f; /* Adding it leaves no digits behind the point. */
    const lanes twos = (of * 1.44269504f + round) - round;
    const lanes rest = of - twos * 0.693359375f + twos * 2.12194440e-4f;
    lanes series = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    series = series * rest + 8.3334519073e-3f;
    series = series * rest + 4.1665795894e-2f;
    series = series * rest + 1.6666665459e-1f;
    series = series * rest + 5.0000001201e-1f;
    series = series * rest * rest + rest + 1.0f;
    return series * (lanes)((__builtin_convertvector(twos, whole) + 127) << 23);
}

/* x * P(N < x), the error function by Abramowitz and Stegun 7.1.26, as in minilm.py. */
QUICK static void gelu(float *values, size_t count)
{
    for (float *end = values + count; values < end; values += LANES) {
        const lanes x = OF(values), size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x), scaled = size * 0.70710678f;
        const lanes t = 1.0f / (scaled * 0.3275911f + 1.0f);
        lanes series = t * 1.061405429f - 1.453152027f;
        series = series * t + 1.421413741f;
        series = series * t - 0.284496736f;
        series = series * t + 0.254829592f;
        const lanes erf = 1.0f - series * t * exponential(-scaled * scaled);
        AT(values) = 0.5f * (x + size * erf);
    }
}

/* Adds `more` to each row and scales it to mean 0 and deviation 1, then by what was learned, which is passed. */
QUICK static void norm(const float **weights, float *values, const float *more, size_t rows)
{
    const float *weight = *weights, *bias = weight + WIDTH;
    *weights = bias + WIDTH;
    for (size_t row = 0; row < rows; row++, values += WIDTH, more += WIDTH) {
        lanes sum = {0}, squares = {0};
        for (int i = 0; i < WIDTH; i += LANES)
            sum += AT(values + i) += OF(more + i);
        const float mean = total(sum) / WIDTH;
        for (int i = 0; i < WIDTH; i += LANES) {
            const lanes off = AT(values + i) -= mean;
            squares += off * off;
        }
        const float scale = 1.0f / sqrtf(total(squares) / WIDTH + 1e-12f);
        for (int i = 0; i < WIDTH; i += LANES)
            AT(values + i) = AT(values + i) * scale * OF(weight + i) + OF(bias + i);
    }
}

/* Self-attention over one text; `asked` has queries, keys and values side by side, `spare` room for
 * HEAD + 1 rows of its tokens, filled up to whole lanes. */
QUICK static void attend(const float *asked, size_t tokens, float *spare, float *seen)
{
    const size_t filled = (tokens + LANES - 1) / LANES * LANES, stride = 3 * WIDTH;
    float *scores = spare + HEAD * filled;
    memset(spare, 0, HEAD * filled * sizeof(float));
    for (int head = 0; head < HEADS; head++) {
        const float *queries = asked + head * HEAD, *keys = queries + WIDTH, *values = keys + WIDTH;
        for (size_t token = 0; token < tokens; token++)
            for (int i = 0; i < HEAD; i++)
                spare[i * filled + token] = keys[token * stride + i];
        for (size_t token = 0; token < tokens; token++) {
            const float *query = queries + token * stride;
            float most = -INFINITY, sum = 0;
            for (size_t some = 0; some < filled; some += LANES) {
                lanes score = {0};
                for (int i = 0; i < HEAD; i++)
                    score += query[i] * OF(spare + i * filled + some);
                AT(scores + some) = score;
            }
            for (size_t other = 0; other < tokens; other++)
                most = scores[other] > most ? scores[other] : most;
            for (size_t some = 0; some < filled; some += LANES)
                AT(scores + some) = exponential(OF(scores + some) - most);
            lanes out[HEAD / LANES] = {{0}};
            for (size_t other = 0; other < tokens; other++) {
                sum += scores[other];
                for (int i = 0; i < HEAD / LANES; i++)
                    out[i] += scores[other] * OF(values + other * stride + i * LANES);
            }
            for (int i = 0; i < HEAD / LANES; i++)
                AT(seen + token * WIDTH + head * HEAD + i * LANES) = out[i] / sum;
        }
    }
}

/* What one layer makes of the states of all texts, in their place; the weights of the layer are passed over. */
static void layer(const float **weights, float *states, float *spare, size_t tokens, const size_t *ends, size_t texts)
{
    float *wide = spare, *seen = wide + tokens * INNER, *more = seen + tokens * WIDTH;
    dense(weights, states, tokens, WIDTH, wide, 3 * WIDTH);
    for (size_t text = 0, start = 0; text < texts; start = ends[text++])
        attend(wide + start * 3 * WIDTH, ends[text] - start, more, seen + start * WIDTH);
    dense(weights, seen, tokens, WIDTH, more, WIDTH);
    norm(weights, states, more, tokens);
    dense(weights, states, tokens, WIDTH, wide, INNER);
    gelu(wide, tokens * INNER);
    dense(weights, wide, tokens, INNER, more, WIDTH);
    norm(weights, states, more, tokens);
}

/* layers(states, ends, weights): all layers, in place.
 *
 * states   a buffer of tokens by 384 floats
 * ends     where each text ends, a list of rising numbers of tokens; the last one is the number of all
 * weights  a buffer of the layers' weights
 */
PyObject *layers(PyObject *module, PyObject *const *given, Py_ssize_t number)
{
    (void)module;
    Py_buffer states, weights;
    size_t *ends = NULL;
    float *spare = NULL;
    if (number != 3 || !PyList_Check(given[1])) {
        PyErr_SetString(PyExc_TypeError, "layers(states, ends, weights)");
        return NULL;
    }
    if (PyObject_GetBuffer(given[0], &states, PyBUF_WRITABLE) < 0)
        return NULL;
    if (PyObject_GetBuffer(given[2], &weights, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&states);
        return NULL;
    }
    const size_t tokens = (size_t)states.len / (WIDTH * sizeof(float)), texts = (size_t)PyList_GET_SIZE(given[1]);
    const size_t size = (size_t)weights.len / (LAYER_SIZE * sizeof(float));
    ends = PyMem_RawMalloc((texts + 1) * sizeof *ends);
    /* Beside the states three arrays, the last of which attention uses before the products do. */
    spare = PyMem_RawMalloc((tokens * (INNER + 2 * WIDTH) + (HEAD + 1) * LANES) * sizeof(float));
    if (ends == NULL || spare == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    size_t start = 0;
    int rising = 1;
    for (size_t text = 0; text < texts; start = ends[text++]) {
        ends[text] = PyLong_AsSize_t(PyList_GET_ITEM(given[1], (Py_ssize_t)text));
        if (PyErr_Occurred())
            goto done;
        rising = rising && ends[text] > start && ends[text] <= tokens;
    }
    if (!rising || start != tokens || !tokens || (size_t)states.len != tokens * WIDTH * sizeof(float)
        || (size_t)weights.len != size * LAYER_SIZE * sizeof(float)) {
        PyErr_SetString(PyExc_ValueError, "the texts do not end where the states do, or weights are missing");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    const float *at = weights.buf;
    for (size_t i = 0; i < size; i++)
        layer(&at, states.buf, spare, tokens, ends, texts);
    Py_END_ALLOW_THREADS
done:
    PyMem_RawFree(ends);
    PyMem_RawFree(spare);
    PyBuffer_Release(&states);
    PyBuffer_Release(&weights);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

#endif
