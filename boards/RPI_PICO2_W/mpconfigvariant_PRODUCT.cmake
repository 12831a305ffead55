# Frozen firmware, see boards/README.md. Neither built nor tried on hardware.
add_compile_definitions(LIMPET_PRODUCT=1)
set(MICROPY_FROZEN_MANIFEST ${CMAKE_CURRENT_LIST_DIR}/../../firmware/frozen/rp2_product.py)
