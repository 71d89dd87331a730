/* A stand-in for libnvidia-ml.so.1, for tests: NVML_STANDIN says which machine it plays.
 *   good        an A100 that has everything, and a card for desks that has no ECC, no serial number, no row remapper
 *   faulty      an A100 with memory errors and a narrow link, and a GPU that fell off the bus
 *   lost        an A100 that is lost after it was opened
 *   no_driver   the kernel driver is not loaded
 *   mismatch    library and driver are of different versions
 * Values and signatures: nvml.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, NO_DRIVER = 9, LOST = 15, MISMATCH = 18, UNKNOWN = 999 };
typedef int ret;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct card { int data_centre, faulty, lost; const char *name, *uuid, *serial; u32 bus; } card;

static const card A100 = {1, 0, 0, "NVIDIA A100-PCIE-40GB", "GPU-00000000-0000-0000-0000-00000000003b", "1320000000001", 0x3b};
static const card DESK = {0, 0, 0, "NVIDIA GeForce RTX 3060", "GPU-00000000-0000-0000-0000-00000000005e", 0, 0x5e};
static card cards[2];
static u32 count;
static int unopened;

static int plays(const char *name) {
    const char *told = getenv("NVML_STANDIN");
    return told && !strcmp(told, name);
}
static ret text(char *to, u32 size, const char *from) {
    snprintf(to, size, "%s", from);
    return SUCCESS;
}
#define CARD(d) const card *c = d; if (c->lost) return LOST
#define DATA_CENTRE(d) CARD(d); if (!c->data_centre) return NOT_SUPPORTED

ret nvmlInit_v2(void) {
    if (plays("no_driver")) return NO_DRIVER;
    if (plays("mismatch")) return MISMATCH;
    cards[0] = A100; cards[1] = DESK; count = 2;
    if (plays("faulty")) { cards[0].faulty = 1; unopened = 1; }
    else if (plays("lost")) { cards[0].lost = 1; count = 1; }
    else if (!plays("good")) return UNKNOWN;
    return SUCCESS;
}
ret nvmlShutdown(void) { return SUCCESS; }
ret nvmlSystemGetDriverVersion(char *to, u32 size) { return text(to, size, "550.54.15"); }
ret nvmlSystemGetNVMLVersion(char *to, u32 size) { return text(to, size, "12.550.54.15"); }
ret nvmlDeviceGetCount_v2(u32 *to) { *to = count; return SUCCESS; }
ret nvmlDeviceGetHandleByIndex_v2(u32 index, void **to) {
    if (unopened && index == 1) return LOST;
    *to = &cards[index];
    return SUCCESS;
}
ret nvmlDeviceGetName(void *d, char *to, u32 size) { CARD(d); return text(to, size, c->name); }
ret nvmlDeviceGetSerial(void *d, char *to, u32 size) { DATA_CENTRE(d); return text(to, size, c->serial); }
ret nvmlDeviceGetUUID(void *d, char *to, u32 size) { CARD(d); return text(to, size, c->uuid); }
ret nvmlDeviceGetVbiosVersion(void *d, char *to, u32 size) { CARD(d); return text(to, size, "92.00.36.00.01"); }
struct pci { char legacy[16]; u32 domain, bus, device, id, subsystem; char bus_id[32]; };
ret nvmlDeviceGetPciInfo_v3(void *d, struct pci *to) {
    CARD(d);
    memset(to, 0, sizeof *to);
    to->bus = c->bus; to->id = 0x20f110de;
    snprintf(to->bus_id, sizeof to->bus_id, "00000000:%02X:00.0", c->bus);
    return SUCCESS;
}
ret nvmlDeviceGetEccMode(void *d, int *now, int *pending) { DATA_CENTRE(d); *now = *pending = 1; return SUCCESS; }
ret nvmlDeviceGetTotalEccErrors(void *d, int type, int counter, u64 *to) {
    DATA_CENTRE(d);
    /* type 1: uncorrected; counter 1: in its life */
    *to = c->faulty ? (u64)(type == 1 ? 2 : 40) + (u64)counter : 0;
    return SUCCESS;
}
ret nvmlDeviceGetRemappedRows(void *d, u32 *correctable, u32 *uncorrectable, u32 *pending, u32 *failure) {
    DATA_CENTRE(d);
    *correctable = c->faulty; *uncorrectable = 2 * (u32)c->faulty; *pending = *failure = c->faulty;
    return SUCCESS;
}
static ret retired(void *d, int cause, u32 *number, u64 *addresses) {
    DATA_CENTRE(d);
    u32 pages = c->faulty && cause == 1 ? 3 : 0, room = *number;
    *number = pages;
    if (room < pages) return INSUFFICIENT_SIZE;
    for (u32 page = 0; page < pages; page++) addresses[page] = 0x1000 + page;
    return SUCCESS;
}
ret nvmlDeviceGetRetiredPages(void *d, int cause, u32 *number, u64 *addresses) { return retired(d, cause, number, addresses); }
ret nvmlDeviceGetRetiredPages_v2(void *d, int cause, u32 *number, u64 *addresses, u64 *times) {
    memset(times, 0, *number * sizeof *times);
    return retired(d, cause, number, addresses);
}
ret nvmlDeviceGetRetiredPagesPendingStatus(void *d, int *to) { DATA_CENTRE(d); *to = c->faulty; return SUCCESS; }
ret nvmlDeviceGetCurrPcieLinkWidth(void *d, u32 *to) { CARD(d); *to = c->faulty ? 8 : 16; return SUCCESS; }
ret nvmlDeviceGetMaxPcieLinkWidth(void *d, u32 *to) { CARD(d); *to = 16; return SUCCESS; }
ret nvmlDeviceGetCurrPcieLinkGeneration(void *d, u32 *to) { CARD(d); *to = 4; return SUCCESS; }
ret nvmlDeviceGetMaxPcieLinkGeneration(void *d, u32 *to) { CARD(d); *to = 4; return SUCCESS; }
ret nvmlDeviceGetPcieReplayCounter(void *d, u32 *to) { CARD(d); *to = c->faulty ? 91 : 0; return SUCCESS; }
ret nvmlDeviceGetTemperature(void *d, int sensor, u32 *to) { CARD(d); *to = 41 + (u32)sensor; return SUCCESS; }
ret nvmlDeviceGetTemperatureThreshold(void *d, int kind, u32 *to) { CARD(d); *to = kind == 0 ? 95 : 92; return SUCCESS; }
ret nvmlDeviceGetPowerUsage(void *d, u32 *to) { CARD(d); *to = 52100; return SUCCESS; }
ret nvmlDeviceGetEnforcedPowerLimit(void *d, u32 *to) { CARD(d); *to = 250000; return SUCCESS; }
ret nvmlDeviceGetClockInfo(void *d, int domain, u32 *to) { CARD(d); *to = domain == 2 ? 1215 : 765; return SUCCESS; }
ret nvmlDeviceGetMaxClockInfo(void *d, int domain, u32 *to) { CARD(d); *to = domain == 2 ? 1215 : 1410; return SUCCESS; }
ret nvmlDeviceGetCurrentClocksThrottleReasons(void *d, u64 *to) { CARD(d); *to = c->faulty ? 0x48 : 1; return SUCCESS; }
struct rates { u32 gpu, memory; };
ret nvmlDeviceGetUtilizationRates(void *d, struct rates *to) { CARD(d); to->gpu = to->memory = 0; return SUCCESS; }
struct memory { u32 version; u64 total, reserved, free, used; };
ret nvmlDeviceGetMemoryInfo_v2(void *d, struct memory *to) {
    CARD(d);
    to->total = 42949672960; to->reserved = 500000000; to->used = 0; to->free = to->total - to->reserved;
    return SUCCESS;
}
