# A sketch written for umqtt.robust, ported by its import line.
#
# Wiring   none
# Boards   Pico W, Pico 2 W, ESP32
# Needs    umqtt.robust on the board: mpremote mip install umqtt.robust
# Run it   limpet up PORT --main firmware/examples/port_from_umqtt.py
# What changes: server, user and password come from the vault, whatever is passed; the server is
# verified; topics get the device's branch in front (limpet/<device>/up/..., .../cmd/...).
import time

from limpet.umqtt import MQTTClient  # was: from umqtt.robust import MQTTClient


def sub_cb(topic, msg):
    print((topic, msg))
    if msg == b"ping":
        c.publish(b"reply", b"pong", qos=1)


c = MQTTClient("umqtt_client", "192.168.1.10", user="me", password="not sent")
c.set_callback(sub_cb)
c.connect()
c.subscribe(b"foo_topic")
while True:
    c.check_msg()
    time.sleep_ms(50)
