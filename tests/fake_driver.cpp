// A stand-in for NVIDIA's driver library, libcuda.so.1, on a machine without a GPU. Its memory is the host's, its modules
// are shared libraries in which g++ has compiled sfm.cu, and a launch runs the kernel before it returns.
//
// Like the driver, it refuses a launch with more shared memory than the function was allowed, and after an illegal
// address every call fails. Tests make any other call fail: fake_fail("cuLaunchKernel", 719).

#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

#include <map>
#include <string>

namespace {

enum { INVALID_VALUE = 1, INVALID_IMAGE = 200, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700 };
constexpr int MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
constexpr unsigned DEFAULT_SHARED_BYTES = 48 << 10;

typedef void (*Kernel)(const void* arguments, int blocks);
struct Function {
    Kernel kernel;
    unsigned shared_bytes;
};

std::map<std::string, int> failures;
std::map<Kernel, Function> functions;
int version = 13000, launches = 0;
bool lost = false;

int status_of(const char* call) {
    if (lost) return ILLEGAL_ADDRESS;
    const auto found = failures.find(call);
    return found == failures.end() ? 0 : found->second;
}

}  // namespace

extern "C" {

void fake_reset() {
    failures.clear();
    version = 13000;
    launches = 0;
    lost = false;
}
void fake_fail(const char* call, int status) { failures[call] = status; }
void fake_version(int value) { version = value; }
int fake_launches() { return launches; }

int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* value) {
    *value = version;
    return 0;
}
int cuGetErrorString(int, const char** text) {
    *text = "an error of the fake driver";
    return 0;
}
int cuGetErrorName(int, const char** text) {
    *text = "FAKE_ERROR";
    return 0;
}
int cuGetExportTable(const void**, const void*) { return NOT_FOUND; }  // NVRTC looks for it

// An image is the path of a shared library.
int cuModuleLoadData(void** module, const void* image) {
    if (const int status = status_of("cuModuleLoadData")) return status;
    *module = dlopen(static_cast<const char*>(image), RTLD_NOW | RTLD_LOCAL);
    return *module ? 0 : INVALID_IMAGE;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    if (const int status = status_of("cuModuleGetFunction")) return status;
    const Kernel kernel = reinterpret_cast<Kernel>(dlsym(module, name));
    if (!kernel) return NOT_FOUND;
    functions.insert({kernel, {kernel, DEFAULT_SHARED_BYTES}});
    *function = &functions.at(kernel);
    return 0;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    if (const int status = status_of("cuFuncSetAttribute")) return status;
    if (attribute != MAX_DYNAMIC_SHARED_SIZE_BYTES) return INVALID_VALUE;
    static_cast<Function*>(function)->shared_bytes = value;
    return 0;
}
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned,
                   unsigned shared_bytes, void*, void** parameters, void**) {
    const int status = status_of("cuLaunchKernel");
    if (status == ILLEGAL_ADDRESS) {  // is noticed after the launch
        lost = true;
        return 0;
    }
    const Function* f = static_cast<Function*>(function);
    if (status) return status;
    if (y != 1 || z != 1 || threads == 0 || threads > 1024 || shared_bytes > f->shared_bytes) return INVALID_VALUE;
    ++launches;
    f->kernel(parameters[0], x);
    return 0;
}
int cuCtxSynchronize() { return status_of("cuCtxSynchronize"); }

int cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* result) {
    static void* const self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    *function = strcmp(name, "cuGetProcAddress") ? dlsym(self, name) : reinterpret_cast<void*>(&cuGetProcAddress_v2);
    if (result) *result = *function ? 0 : 1;
    return *function ? 0 : NOT_FOUND;
}

}  // extern "C"
