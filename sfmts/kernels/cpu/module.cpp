// The Python module: it chooses the instruction set and lets go of the interpreter's lock while a kernel runs.
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <atomic>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "problem.h"

extern const Kernel generic_kernel;
#if defined(__x86_64__)
extern const Kernel avx2_kernel, avx512_kernel;
#endif

void share_work(int64_t items, int64_t threads, void (*work)(void*, int64_t, int64_t), void* context) {
    std::atomic<int64_t> next{0};
    const auto run = [&](int64_t thread) {
        for (int64_t item = next++; item < items; item = next++) work(context, item, thread);
    };
    std::vector<std::thread> others;
    for (int64_t thread = 1; thread < threads && thread < items; ++thread) {
        try {
            others.emplace_back(run, thread);
        } catch (const std::system_error&) {
            break;  // the system has no thread to give: those that run do its share
        }
    }
    run(0);
    for (auto& other : others) other.join();
}

// The kernels that this processor can run, the fastest first.
static std::vector<const Kernel*> usable_kernels() {
    std::vector<const Kernel*> kernels;
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

static PyObject* run(PyObject*, PyObject* arguments) {
    const char *name, *what;
    unsigned long long address;
    if (!PyArg_ParseTuple(arguments, "ssK", &name, &what, &address)) return nullptr;
    const Pass* pass = nullptr;
    for (const auto& known : passes)
        if (std::strcmp(known.name, what) == 0) pass = &known.pass;
    if (!pass) return PyErr_Format(PyExc_ValueError, "the kernel has no pass '%s'", what);
    for (const Kernel* kernel : usable_kernels()) {
        if (std::strcmp(kernel->name, name) != 0) continue;
        bool out_of_memory = false;
        Py_BEGIN_ALLOW_THREADS
        try {
            kernel->run(*reinterpret_cast<Problem*>(address), *pass);
        } catch (const std::bad_alloc&) {
            out_of_memory = true;
        }
        Py_END_ALLOW_THREADS
        if (out_of_memory) return PyErr_NoMemory();
        Py_RETURN_NONE;
    }
    return PyErr_Format(PyExc_ValueError, "this processor has no instruction set '%s'", name);
}

static PyMethodDef methods[] = {
    {"instruction_sets", instruction_sets, METH_NOARGS, "Names of the instruction sets at hand, the fastest first."},
    {"run", run, METH_VARARGS, "run(instruction_set, pass, address of a Problem)"},
    {nullptr, nullptr, 0, nullptr}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, 0, methods, nullptr, nullptr, nullptr,
                                 nullptr};

PyMODINIT_FUNC PyInit__native() { return PyModule_Create(&definition); }
