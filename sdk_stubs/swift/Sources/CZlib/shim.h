// The zlib of the system, on iOS and macOS as on Linux.
#include <zlib.h>
