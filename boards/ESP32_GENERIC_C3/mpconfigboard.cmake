# Frozen firmware, see boards/README.md. Neither built nor tried on hardware.
include(boards/ESP32_GENERIC_C3/mpconfigboard.cmake)
list(APPEND SDKCONFIG_DEFAULTS ${CMAKE_CURRENT_LIST_DIR}/sdkconfig.limpet)
set(MICROPY_FROZEN_MANIFEST ${CMAKE_CURRENT_LIST_DIR}/../../firmware/frozen/esp32.py)

if(MICROPY_BOARD_VARIANT STREQUAL "PRODUCT")
    list(APPEND SDKCONFIG_DEFAULTS ${CMAKE_CURRENT_LIST_DIR}/sdkconfig.product)
    list(APPEND MICROPY_DEF_BOARD LIMPET_PRODUCT=1)
    set(MICROPY_FROZEN_MANIFEST ${CMAKE_CURRENT_LIST_DIR}/../../firmware/frozen/esp32_product.py)
endif()
