// Frozen firmware, see boards/README.md. Neither built nor tried on hardware.
#include "boards/ESP32_GENERIC/mpconfigboard.h"

#if LIMPET_PRODUCT // no prompt on any port
#undef MICROPY_HW_ENABLE_UART_REPL
#define MICROPY_HW_ENABLE_UART_REPL (0)
#undef MICROPY_HW_ENABLE_USBDEV
#define MICROPY_HW_ENABLE_USBDEV (0)
#undef MICROPY_HW_ESP_USB_SERIAL_JTAG
#define MICROPY_HW_ESP_USB_SERIAL_JTAG (0)
#undef MICROPY_PY_WEBREPL
#define MICROPY_PY_WEBREPL (0)
#endif
