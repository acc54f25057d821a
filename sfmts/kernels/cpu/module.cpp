// The Python module. It selects the kernels of an instruction set and releases the interpreter's lock while they run.
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <cstring>
#include <exception>
#include <new>

#if !defined(_WIN32)
#include <pthread.h>
#endif

#include "pool.h"
#include "problem.h"

extern const Kernel generic_kernel;
#if defined(__x86_64__)
extern const Kernel avx2_kernel, avx512_kernel;
#endif

static Pool* pool = new Pool;

void share_work(int64_t items, int64_t threads, void (*work)(void*, int64_t, int64_t), void* context) {
    pool->run(items, threads, work, context);
}

// The kernels that this processor supports, the fastest first. A fixed array cannot throw, unlike a vector.
struct Kernels {
    const Kernel* of[3];
    int count = 0;

    void push_back(const Kernel* kernel) { of[count++] = kernel; }
    const Kernel* const* begin() const { return of; }
    const Kernel* const* end() const { return of + count; }
};

static Kernels usable_kernels() {
    Kernels kernels;
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        kernels.push_back(&avx512_kernel);
    if (avx2) kernels.push_back(&avx2_kernel);
#endif
    kernels.push_back(&generic_kernel);
    return kernels;
}

static PyObject* instruction_sets(PyObject*, PyObject*) {
    PyObject* names = PyList_New(0);
    for (const Kernel* kernel : usable_kernels()) {
        PyObject* name = names ? PyUnicode_FromString(kernel->name) : nullptr;
        if (!name || PyList_Append(names, name)) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

static const struct {
    const char* name;
    Pass pass;
} passes[] = {{"plan_forward", Pass::plan_forward},
              {"forward", Pass::forward},
              {"plan_backward", Pass::plan_backward},
              {"backward", Pass::backward}};

// Calls work(kernel) for the kernels of the named instruction set, without the interpreter's lock. C++ exceptions
// become Python exceptions.
template <class Work>
static PyObject* with_kernel(const char* name, Work work) noexcept {
    bool known = false, out_of_memory = false, failed = false;
    char message[512] = "an exception of unknown type";  // a std::string could fail to allocate
    Py_BEGIN_ALLOW_THREADS
    try {
        for (const Kernel* kernel : usable_kernels()) {
            if (std::strcmp(kernel->name, name) != 0) continue;
            known = true;
            work(*kernel);
            break;
        }
    } catch (const std::bad_alloc&) {
        out_of_memory = true;
    } catch (const std::exception& error) {
        failed = true;
        std::strncpy(message, error.what(), sizeof message - 1);
    } catch (...) {
        failed = true;
    }
    Py_END_ALLOW_THREADS
    if (out_of_memory) return PyErr_NoMemory();
    if (failed) return PyErr_Format(PyExc_RuntimeError, "the compiled kernel failed: %s", message);
    if (!known) return PyErr_Format(PyExc_ValueError, "this processor has no instruction set '%s'", name);
    Py_RETURN_NONE;
}

static PyObject* run(PyObject*, PyObject* arguments) {
    const char *name, *what;
    unsigned long long address;
    if (!PyArg_ParseTuple(arguments, "ssK", &name, &what, &address)) return nullptr;
    const Pass* pass = nullptr;
    for (const auto& known : passes)
        if (std::strcmp(known.name, what) == 0) pass = &known.pass;
    if (!pass) return PyErr_Format(PyExc_ValueError, "the kernel has no pass '%s'", what);
    return with_kernel(name, [&](const Kernel& kernel) { kernel.run(*reinterpret_cast<Problem*>(address), *pass); });
}

// Calls a kernel function that takes the address of one struct.
template <class Struct, void (*Kernel::*function)(const Struct&)>
static PyObject* call(PyObject*, PyObject* arguments) {
    const char* name;
    unsigned long long address;
    if (!PyArg_ParseTuple(arguments, "sK", &name, &address)) return nullptr;
    return with_kernel(name, [&](const Kernel& kernel) { (kernel.*function)(*reinterpret_cast<Struct*>(address)); });
}

static PyMethodDef methods[] = {
    {"instruction_sets", instruction_sets, METH_NOARGS, "Names of the instruction sets at hand, the fastest first."},
    {"run", run, METH_VARARGS, "run(instruction_set, pass, address of a Problem)"},
    {"resonate", call<Resonance, &Kernel::resonate>, METH_VARARGS, "resonate(instruction_set, address of a Resonance)"},
    {"project", call<Projection, &Kernel::project>, METH_VARARGS, "project(instruction_set, address of a Projection)"},
    {"summarize_bank", call<BankProblem, &Kernel::summarize_bank>, METH_VARARGS,
     "summarize_bank(instruction_set, address of a BankProblem)"},
    {nullptr, nullptr, 0, nullptr}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, 0, methods, nullptr, nullptr, nullptr,
                                 nullptr};

PyMODINIT_FUNC PyInit__native() {
#if !defined(_WIN32)
    pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });  // threads do not survive a fork
#endif
    return PyModule_Create(&definition);
}
