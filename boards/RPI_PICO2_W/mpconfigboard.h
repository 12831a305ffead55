// Frozen firmware, see boards/README.md. Neither built nor tried on hardware.
#include "boards/RPI_PICO2_W/mpconfigboard.h"

#if LIMPET_PRODUCT // no prompt on any port
#define MICROPY_HW_ENABLE_UART_REPL (0)
#define MICROPY_HW_ENABLE_USBDEV (0)
#endif
