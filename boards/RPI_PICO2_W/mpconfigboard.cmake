# Frozen firmware, see boards/README.md. Neither built nor tried on hardware.
include(boards/RPI_PICO2_W/mpconfigboard.cmake)
set(MICROPY_BOARD_PINS ${MICROPY_PORT_DIR}/boards/RPI_PICO2_W/pins.csv)
set(MICROPY_FROZEN_MANIFEST ${CMAKE_CURRENT_LIST_DIR}/../../firmware/frozen/rp2.py)
