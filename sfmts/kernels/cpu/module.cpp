// The Python module: it chooses the instruction set and lets go of the interpreter's lock while a kernel runs.
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <pthread.h>
#endif

#include "problem.h"

extern const Kernel generic_kernel;
#if defined(__x86_64__)
extern const Kernel avx2_kernel, avx512_kernel;
#endif

// Threads that wait for work.  They stay, each on the core that it last ran on: a new thread may start on its parent's
// core and share it for as long as a whole pass takes.  The pool is never destroyed, as its threads outlive main().
class Pool {
  public:
    void run(int64_t items, int64_t threads, void (*work)(void*, int64_t, int64_t), void* context) {
        Job job{work, context, items};
        job.places = std::min(threads, items) - 1;
        const bool shared = job.places > 0;
        if (shared) {
            std::lock_guard<std::mutex> lock(mutex_);
            add_threads(job.places);
            jobs_.push_back(&job);
            ++pushed_;
            wake_.notify_all();
        }
        job.do_items(0);
        if (!shared) return;
        std::unique_lock<std::mutex> lock(mutex_);
        jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
        done_.wait(lock, [&] { return job.running == 0; });
    }

  private:
    struct Job {
        void (*work)(void*, int64_t, int64_t);
        void* context;
        int64_t items;
        std::atomic<int64_t> next{0};
        int64_t places = 0, joined = 0, running = 0;  // these are guarded by the pool's mutex

        void do_items(int64_t thread) {
            for (int64_t item = next++; item < items; item = next++) work(context, item, thread);
        }
    };

    void add_threads(int64_t wanted) {
        for (; idle_ < wanted; ++idle_) {
            try {
                std::thread(&Pool::wait_for_jobs, this).detach();
            } catch (const std::system_error&) {
                return;  // the system has no thread to give: those that run do its share
            }
        }
    }

    void wait_for_jobs() {
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            Job* job = nullptr;
            wake_.wait(lock, [&] {
                for (Job* waiting : jobs_)
                    if (!job && waiting->joined < waiting->places) job = waiting;
                return job != nullptr;
            });
            const int64_t thread = ++job->joined;
            ++job->running, --idle_;
            lock.unlock();
            job->do_items(thread);
            lock.lock();
            ++idle_;
            if (--job->running == 0) done_.notify_all();
            stay_awake(lock);
        }
    }

    // The backward follows the forward at once: who goes to sleep between them may wake up on the core of the caller.
    void stay_awake(std::unique_lock<std::mutex>& lock) {
        const uint64_t seen = pushed_;
        lock.unlock();
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
        while (pushed_ == seen && std::chrono::steady_clock::now() < end) std::this_thread::yield();
        lock.lock();
    }

    std::atomic<uint64_t> pushed_{0};
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::vector<Job*> jobs_;
    int64_t idle_ = 0;
};

static Pool* pool = new Pool;

void share_work(int64_t items, int64_t threads, void (*work)(void*, int64_t, int64_t), void* context) {
    pool->run(items, threads, work, context);
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

// Calls work(kernel), without the interpreter's lock, for the kernels compiled for the named instruction set.
template <class Work>
static PyObject* with_kernel(const char* name, Work work) {
    for (const Kernel* kernel : usable_kernels()) {
        if (std::strcmp(kernel->name, name) != 0) continue;
        bool out_of_memory = false;
        Py_BEGIN_ALLOW_THREADS
        try {
            work(*kernel);
        } catch (const std::bad_alloc&) {
            out_of_memory = true;
        }
        Py_END_ALLOW_THREADS
        if (out_of_memory) return PyErr_NoMemory();
        Py_RETURN_NONE;
    }
    return PyErr_Format(PyExc_ValueError, "this processor has no instruction set '%s'", name);
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

// A function of the kernels that takes one struct, by its address.
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
    pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });  // a forked child has none of its parent's threads
#endif
    return PyModule_Create(&definition);
}
