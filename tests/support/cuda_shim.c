/* A libcuda.so.1 for the tests of our ctypes: its "device memory" is the host's, and it writes down
   what each call was given. Sizes, pointers and handles have all of their 64 bits in use. It has no
   GPU to tell about: what it answers is what the test set, or an error. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef uint64_t CUdeviceptr;
typedef void *Handle;

static uint64_t seen[8];
static float milliseconds;
static int status, devices, capability[2], version;
static size_t memory[2];
static const char *device_name = "";

/* For the test. */
void shim_set_memory(size_t available, size_t total) { memory[0] = available, memory[1] = total; }
uint64_t shim_seen(int index) { return seen[index]; }
void shim_set_status(int value) { status = value; }
void shim_set_milliseconds(float value) { milliseconds = value; }
void shim_set_device(int count, int major, int minor, int cuda, const char *name) {
    devices = count, capability[0] = major, capability[1] = minor, version = cuda, device_name = name;
}

static CUresult note(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    seen[0] = a, seen[1] = b, seen[2] = c, seen[3] = d;
    return status;
}
#define P(x) ((uint64_t)(uintptr_t)(x))
#define MADE (Handle)0xfedcba9876543210ull

CUresult cuInit(unsigned flags) { return note(flags, 0, 0, 0); }
CUresult cuDriverGetVersion(int *out) { *out = version; return status; }
CUresult cuGetErrorName(CUresult error, const char **out) {
    *out = error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : NULL;
    return 0;
}
CUresult cuDeviceGetCount(int *out) { *out = devices; return status; }
CUresult cuDeviceGet(int *out, int ordinal) { *out = ordinal; return status; }
CUresult cuDeviceGetName(char *out, int size, int device) {
    memcpy(out, device_name, strlen(device_name) + 1);
    return note(size, device, 0, 0);
}
CUresult cuDeviceGetAttribute(int *out, int attribute, int device) {
    *out = capability[attribute - 75];
    return note(attribute, device, 0, 0);
}
CUresult cuDevicePrimaryCtxRetain(Handle *out, int device) { *out = MADE; return note(device, 0, 0, 0); }
CUresult cuCtxSetCurrent(Handle context) { return note(P(context), 0, 0, 0); }
CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
    *available = memory[0], *total = memory[1];
    return status;
}
CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t size) {
    if (!status) *out = P(malloc(size));
    return note(size, 0, 0, 0);
}
CUresult cuMemFree_v2(CUdeviceptr pointer) {
    note(pointer, 0, 0, 0);
    free((void *)pointer);
    return status;
}
CUresult cuMemHostAlloc(void **out, size_t size, unsigned flags) {
    if (!status) *out = malloc(size);
    return note(size, flags, 0, 0);
}
CUresult cuMemFreeHost(void *pointer) {
    note(P(pointer), 0, 0, 0);
    free(pointer);
    return status;
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, Handle stream) {
    memcpy((void *)to, from, size);
    return note(to, P(from), size, P(stream));
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, Handle stream) {
    memcpy(to, (void *)from, size);
    return note(P(to), from, size, P(stream));
}
CUresult cuStreamCreate(Handle *out, unsigned flags) { *out = MADE; return note(flags, 0, 0, 0); }
CUresult cuStreamSynchronize(Handle stream) { return note(P(stream), 0, 0, 0); }
CUresult cuStreamDestroy_v2(Handle stream) { return note(P(stream), 0, 0, 0); }
CUresult cuStreamBeginCapture_v2(Handle stream, int mode) { return note(P(stream), mode, 0, 0); }
CUresult cuStreamEndCapture(Handle stream, Handle *out) { *out = MADE; return note(P(stream), 0, 0, 0); }
CUresult cuGraphInstantiateWithFlags(Handle *out, Handle graph, unsigned long long flags) {
    *out = MADE;
    return note(P(graph), flags, 0, 0);
}
CUresult cuGraphLaunch(Handle graph, Handle stream) { return note(P(graph), P(stream), 0, 0); }
CUresult cuGraphExecDestroy(Handle graph) { return note(P(graph), 0, 0, 0); }
CUresult cuGraphDestroy(Handle graph) { return note(P(graph), 0, 0, 0); }
CUresult cuEventCreate(Handle *out, unsigned flags) { *out = MADE; return note(flags, 0, 0, 0); }
CUresult cuEventRecord(Handle event, Handle stream) { return note(P(event), P(stream), 0, 0); }
CUresult cuEventSynchronize(Handle event) { return note(P(event), 0, 0, 0); }
CUresult cuEventElapsedTime(float *out, Handle start, Handle end) {
    *out = milliseconds;
    return note(P(start), P(end), 0, 0);
}
CUresult cuEventDestroy_v2(Handle event) { return note(P(event), 0, 0, 0); }
